"""Elastic pools of a RayCluster: what the chart asks of KubeRay, and what the operator may do there."""

import json

import helm_python
import pytest

from tests.unit.chart.rendering import Document, one, pods, preset, render

EVALUATION = preset("evaluation")
RAY = {"ray": {"mode": "kuberay", "kuberay": {"requireApi": False}}}
ELASTIC = {
    "name": "x",
    "vendor": "nvidia",
    "replicas": 2,
    "minReplicas": 1,
    "maxReplicas": 4,
    "labels": {"a": "b"},
    "accelerator": {"count": 8},
    "shape": {"model": "H100", "memoryBytes": 85_899_345_920},
}
FIXED = {"name": "fixed", "replicas": 3}


def rendered(*pools: Document, **changes: Document) -> list[Document]:
    return render(EVALUATION, RAY, {"nodePools": list(pools)}, changes)


def numbers(documents: list[Document]) -> dict[str, tuple[int, int, int]]:
    groups = one(documents, "RayCluster", "test-computility")["spec"]["workerGroupSpecs"]
    return {
        each["groupName"]: (each["replicas"], each["minReplicas"], each["maxReplicas"]) for each in groups
    }


def environment(documents: list[Document]) -> dict[str, str | None]:
    spec = dict(pods(documents))["Deployment/test-computility-operator"]
    return {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}


def test_a_group_with_room_begins_with_its_least_and_tells_its_limits() -> None:
    documents = rendered(ELASTIC, FIXED)
    assert numbers(documents) == {"x": (1, 1, 4), "fixed": (3, 0, 3)}
    metadata = one(documents, "RayCluster", "test-computility")["metadata"]
    assert metadata["labels"]["computility.io/pools"] == "elastic"
    told = json.loads(metadata["annotations"]["computility.io/pools"])
    assert list(told) == ["x"]
    assert (told["x"]["minReplicas"], told["x"]["maxReplicas"]) == (1, 4)
    labels = {"a": "b", "computility.io/pool": "x"}
    shape = {"vendor": "nvidia", "devices": 8, "model": "H100", "memoryBytes": 85_899_345_920}
    assert told["x"]["shape"] == {**shape, "labels": labels}
    assert environment(documents)["COMPUTILITY_OPERATOR__POOLS_KIND"] == "RayCluster"


def test_nodes_tell_the_names_that_kuberay_gave_their_pods() -> None:
    [group] = one(rendered(ELASTIC), "RayCluster", "test-computility")["spec"]["workerGroupSpecs"]
    [ray] = group["template"]["spec"]["containers"]
    assert "--labels=computility.io/node=$(POD_NAME),computility.io/pool=x,a=b" in ray["command"]
    [name] = [each for each in ray["env"] if each["name"] == "POD_NAME"]
    assert name["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_without_an_operator_or_room_nobody_sizes_groups() -> None:
    alone = rendered(ELASTIC, operator={"enabled": False})
    assert numbers(alone) == {"x": (2, 1, 4)}
    for documents in (alone, rendered(FIXED)):
        metadata = one(documents, "RayCluster", "test-computility")["metadata"]
        assert "computility.io/pools" not in {**metadata["labels"], **metadata["annotations"]}
    assert "COMPUTILITY_OPERATOR__POOLS_NAMESPACE" not in environment(rendered(FIXED))


def test_two_groups_of_a_name_are_refused() -> None:
    with pytest.raises(helm_python.HelmError, match="x: there are two of this name"):
        rendered(ELASTIC, {"name": "x"})


def test_the_operator_may_do_with_rayclusters_only_where_it_sizes_them() -> None:
    rules = one(rendered(ELASTIC), "Role", "test-computility-operator")["rules"]
    granted = {(rule["apiGroups"][0], rule["resources"][0]): rule["verbs"] for rule in rules[2:]}
    assert granted == {("ray.io", "rayclusters"): ["get", "list", "patch"], ("", "pods"): ["list"]}
    builtin = render(EVALUATION, {"nodePools": [ELASTIC]})
    for documents in (builtin, rendered(FIXED)):
        asked = str(one(documents, "Role", "test-computility-operator")["rules"])
        assert "ray.io" not in asked
        assert "pods" not in asked
    assert environment(builtin)["COMPUTILITY_OPERATOR__POOLS_KIND"] == "StatefulSet"
