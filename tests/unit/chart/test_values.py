"""Values that the chart takes give objects that Kubernetes takes; all others are refused by their path."""

from typing import Any

import helm_python
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.chart.kubernetes_schemas import schema_of
from tests.unit.chart.rendering import PRESETS, Document, preset, render

EVALUATION = preset("evaluation")
WITHOUT_CRDS = {"crds": {"install": False}}


def check(documents: list[Document]) -> None:
    """Against the schemas of a recent Kubernetes; nothing unknown is let through."""
    for document in documents:
        validator = schema_of(document["kind"], document["apiVersion"])
        if validator is not None:
            wrong = [
                f"{document['kind']}: {each.json_path}: {each.message}"
                for each in validator.iter_errors(document)
            ]
            assert not wrong


@pytest.mark.parametrize("name", PRESETS)
def test_presets_give_what_kubernetes_takes(name: str) -> None:
    check(render(preset(name)))


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"contrl": {}}, "contrl"),
        ({"control": {"replicas": -1}}, "/control/replicas"),
        ({"control": {"replica": 1}}, "/control"),
        ({"control": {"resources": {"requests": {"cpu": "many"}}}}, "/control/resources/requests/cpu"),
        ({"database": {"mode": "sqlite"}}, "/database/mode"),
        ({"database": {"external": {"url": "mysql://host/db"}}}, "/database/external/url"),
        ({"gateway": {"drainSeconds": 0}}, "/gateway/drainSeconds"),
        ({"home": {"mountPath": "relative"}}, "/home/mountPath"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"nodePools": [{"vendor": "cpu"}]}, "/nodePools/0"),
        ({"nodePools": [{"name": "Big_Pool"}]}, "/nodePools/0/name"),
        ({"nodePools": [{"name": "x", "vendor": "acme"}]}, "/nodePools/0/vendor"),
        ({"nodePools": [{"name": "x", "accelerator": {"count": -1}}]}, "/nodePools/0/accelerator/count"),
        ({"operator": {"webhook": {"failurePolicy": "Maybe"}}}, "/operator/webhook/failurePolicy"),
        ({"podSecurity": {"runAsUser": 0}}, "/podSecurity/runAsUser"),
        ({"ray": {"mode": "slurm"}}, "/ray/mode"),
        ({"settings": {"gateway": {"host": "0.0.0.0"}}}, "/settings/gateway"),
        ({"settings": {"scheduler": {"cycle_seconds": -1}}}, "/settings/scheduler/cycle_seconds"),
        ({"settings": {"shceduler": {}}}, "/settings"),
    ],
)
def test_wrong_values_are_refused_by_path(values: Document, path: str) -> None:
    with pytest.raises(helm_python.HelmValuesError) as refused:
        render(EVALUATION, values)
    assert path in str(refused.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"database": {"mode": "external", "external": {"existingSecret": ""}}},
            "database.external: set existingSecret or url",
        ),
        ({"nodePools": [{"name": "x", "replicas": 5, "maxReplicas": 2}]}, "nodePools: x: replicas (5)"),
        ({"nodePools": [{"name": "x", "replicas": 1, "minReplicas": 2}]}, "nodePools: x: replicas (1)"),
        ({"nodePools": [{"name": "x"}, {"name": "x"}]}, "nodePools: x: there are two"),
        ({"nodePools": [{"name": "x", "procMount": "Unmasked"}]}, "nodePools: x: procMount Unmasked"),
        (
            {"nodePools": [{"name": "x", "seccompProfile": {"type": "Localhost"}}]},
            "nodePools: x: seccompProfile.localhostProfile",
        ),
        (
            {"ray": {"mode": "external"}, "networkPolicy": {"rayFrom": [{"podSelector": {}}]}},
            "ray.external.address is not set",
        ),
        (
            {"ray": {"mode": "external", "external": {"address": "r:6379"}}},
            "networkPolicy.rayFrom is empty",
        ),
        ({"monitoring": {"podMonitor": {"enabled": True}}}, "networkPolicy.metricsFrom is empty"),
        (
            {"ingress": {"control": {"enabled": True, "host": "c.example"}}},
            "networkPolicy.controlFrom is empty, so the policies keep whoever serves ingress.control",
        ),
        ({"operator": {"webhook": {"existingSecret": "mine"}}}, "operator.webhook.caBundle is not set"),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused_with_their_names(values: Document, said: str) -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        render(EVALUATION, values)
    assert said in str(refused.value)


def _name(pool: Any) -> str:
    return str(pool["name"])


NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
LABELS = st.dictionaries(NAMES, NAMES, max_size=3)
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)
TOLERATION = st.fixed_dictionaries(
    {"key": NAMES, "operator": st.just("Equal"), "value": NAMES, "effect": st.just("NoSchedule")}
)
PLACE: dict[Any, Any] = {
    "nodeSelector": LABELS,
    "tolerations": st.lists(TOLERATION, max_size=2),
    "priorityClassName": NAMES,
}
ENV = st.lists(st.fixed_dictionaries({"name": st.just("LANGUAGE"), "value": TEXT}), max_size=1)
POOL = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        **PLACE,
        "vendor": st.sampled_from(["cpu", "nvidia", "ascend", "amd"]),
        "accelerator": st.fixed_dictionaries({}, optional={"count": st.integers(0, 16)}),
        "image": st.fixed_dictionaries({}, optional={"repository": NAMES, "tag": NAMES}),
        "replicas": st.integers(0, 1000),
        "rdma": st.fixed_dictionaries({"resource": st.just("rdma/hca")}),
        "runtimeClassName": NAMES,
        "extraEnv": ENV,
        "supplementalGroups": st.lists(st.integers(1, 1000), max_size=2),
    },
)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "fullnameOverride": NAMES,
        "commonLabels": LABELS,
        "extraEnv": ENV,
        "global": st.fixed_dictionaries(
            {},
            optional={"imageRegistry": NAMES, "imagePullSecrets": st.lists(NAMES, unique=True, max_size=2)},
        ),
        "control": st.fixed_dictionaries(
            {}, optional={**PLACE, "replicas": st.integers(0, 9), "extraEnv": ENV}
        ),
        "gateway": st.fixed_dictionaries(
            {},
            optional={
                **PLACE,
                "replicas": st.integers(0, 100),
                "drainSeconds": st.integers(1, 86_400),
                "preStopSeconds": st.integers(0, 300),
                "spool": st.fixed_dictionaries({"persistent": st.booleans()}),
                "tls": st.fixed_dictionaries({"secretName": NAMES}),
            },
        ),
        "operator": st.fixed_dictionaries(
            {},
            optional={
                **PLACE,
                "enabled": st.booleans(),
                "watchNamespaces": st.lists(NAMES, unique=True, max_size=2),
            },
        ),
        "settings": st.fixed_dictionaries(
            {"engine": st.fixed_dictionaries({"media_domains": st.lists(NAMES, max_size=2)})}
        ),
        "nodePools": st.lists(POOL, max_size=3, unique_by=_name),
    },
)


@given(values=VALUES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_the_schema_takes_gives_what_kubernetes_takes(values: dict[str, Any]) -> None:
    check(render(EVALUATION, WITHOUT_CRDS, values))
