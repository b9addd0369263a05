"""The definitions on a real API server: taken, with limits, defaults, columns and the scale subresource."""

import json

import pytest

from operators.crds.manifests import GROUP
from operators.crds.table import CRDS
from tests.fixtures.kube.plane import Plane

pytestmark = pytest.mark.integration
ENDPOINT = {
    "apiVersion": f"{GROUP}/v1alpha1",
    "kind": "Endpoint",
    "metadata": {"name": "chat", "namespace": "default"},
    "spec": {"model": "tiny"},
}


def test_all_kinds_are_established_and_of_one_category(cluster: Plane) -> None:
    listed = cluster.kubectl("api-resources", f"--api-group={GROUP}", "-o", "name").split()
    assert set(listed) == {f"{crd.plural}.{GROUP}" for crd in CRDS}
    listed = cluster.kubectl("api-resources", "--categories=computility", "-o", "name").split()
    assert {name for name in listed if name.endswith(GROUP)} == {f"{crd.plural}.{GROUP}" for crd in CRDS}


def test_schemas_lose_nothing_on_the_server(cluster: Plane) -> None:
    for item in cluster.get("customresourcedefinitions")["items"]:
        conditions = {c["type"]: c for c in item["status"]["conditions"]}
        assert "NonStructuralSchema" not in conditions, conditions


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({}, "spec.model"),
        ({"model": "UPPER"}, "spec.model"),
        ({"model": "tiny", "replicas": 2000}, "spec.replicas"),
        ({"model": "tiny", "replicas": "two"}, "spec.replicas"),
        ({"model": "tiny", "devices": {"vendors": ["acme"]}}, "spec.devices.vendors"),
        ({"model": "tiny", "slo": 5}, "spec.slo"),
    ],
)
def test_what_the_schema_refuses_is_refused_with_the_path(
    cluster: Plane, spec: dict[str, object], path: str
) -> None:
    document = json.dumps({**ENDPOINT, "spec": spec})
    refused = cluster.try_kubectl("create", "--validate=false", "-f", "-", stdin=document)
    assert refused.returncode != 0
    assert path in refused.stderr


def test_defaults_and_scale(cluster: Plane) -> None:
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(ENDPOINT))
    try:
        made = cluster.get("cep", "chat")
        assert (made["spec"]["replicas"], made["spec"]["queue"]) == (1, "default")
        cluster.kubectl("scale", f"endpoints.{GROUP}", "chat", "--replicas=3")
        assert cluster.get(f"endpoints.{GROUP}", "chat")["spec"]["replicas"] == 3
        head = cluster.kubectl("get", "cep", "chat").splitlines()[0].split()
        assert head == ["NAME", "MODEL", "SERVES", "ENGINES", "UP", "SYNCED", "READY", "AGE"]
    finally:
        cluster.kubectl("delete", "cep", "chat")
