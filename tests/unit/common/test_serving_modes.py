"""What an Endpoint may say about its mode, and which field is named when it may not."""

from typing import Any

import pytest

from common.errors import InvalidInput
from common.resources import parse_resource
from common.resources.serving import EndpointSpec

CPU = {"devices": {"vendors": ["cpu"]}}
BOTH = {"mode": "disaggregated", "prefill": CPU, "decode": CPU}


def spec_of(**spec: Any) -> EndpointSpec:
    resource = parse_resource(
        {
            "apiVersion": "computility.io/v1alpha1",
            "kind": "Endpoint",
            "metadata": {"name": "chat", "project": "lab"},
            "spec": {"model": "tiny", **spec},
        }
    )
    assert isinstance(resource.spec, EndpointSpec)
    return resource.spec


def on(*vendors: str) -> dict[str, Any]:
    return {"devices": {"vendors": list(vendors)}}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"mode": "automatic"}, "spec.mode"),
        ({"mode": "auto", "replicas": 2}, "replicas: leave it out in mode auto"),
        ({"mode": "auto", "prefill": CPU}, "prefill: needs mode: disaggregated"),
        ({"mode": "auto", "minPromptTokens": 9}, "minPromptTokens: needs mode: disaggregated"),
        ({"mode": "single", "replicas": 2}, "replicas: mode single has one engine, not 2"),
        ({"prefill": CPU}, "prefill: needs mode: disaggregated"),
        ({"mode": "replicated", "decode": CPU}, "decode: needs mode: disaggregated"),
        ({"minPromptTokens": 9}, "minPromptTokens: needs mode: disaggregated"),
        ({"mode": "disaggregated", "decode": CPU}, "prefill: mode disaggregated needs it"),
        ({"mode": "disaggregated", "prefill": CPU}, "decode: mode disaggregated needs it"),
        ({**BOTH, "replicas": 2}, "replicas: leave it out in mode disaggregated"),
        ({**BOTH, **CPU}, "devices: leave it out in mode disaggregated"),
        ({**BOTH, "prefill": {}}, "prefill.devices.vendors: name one vendor"),
        ({**BOTH, "decode": on("cpu", "nvidia")}, "decode.devices.vendors: name one vendor"),
        ({**BOTH, "decode": on("nvidia")}, "decode.devices.vendors: must be cpu as of prefill"),
        ({**BOTH, "prefill": on("metax")}, "prefill.devices.vendors: no way is known"),
        ({**BOTH, "prefill": {**CPU, "replicas": -1}}, "spec.prefill.replicas"),
    ],
)
def test_a_mode_that_cannot_be_is_refused_by_the_name_of_the_field(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        spec_of(**spec)
    assert said in f"{refused.value.param}: {refused.value.message}"


@pytest.mark.parametrize(
    ("spec", "engines"),
    [
        ({}, {"": 1}),
        ({"replicas": 3}, {"": 3}),
        ({"mode": "single", "replicas": 0}, {"": 0}),
        ({"mode": "replicated", "replicas": 3}, {"": 3}),
        ({"mode": "auto", "autoscaling": {"maxReplicas": 9}}, None),
        (BOTH, {"prefill": 1, "decode": 1}),
        ({**BOTH, "prefill": {**CPU, "replicas": 4}}, {"prefill": 4, "decode": 1}),
        ({"mode": "disaggregated", "prefill": on("nvidia"), "decode": on("nvidia", "nvidia")}, None),
    ],
)
def test_the_engines_of_all_roles_count(spec: dict[str, Any], engines: dict[str, int] | None) -> None:
    made = spec_of(**spec)
    if engines is not None:
        assert {role: wanted.replicas for role, wanted in made.roles.items()} == engines
        assert made.engines == sum(engines.values())
    assert EndpointSpec.model_validate(made.model_dump(mode="json", by_alias=True)) == made
