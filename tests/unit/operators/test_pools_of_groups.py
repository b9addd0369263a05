"""Worker groups of RayClusters as pools, and the patches that size them."""

from typing import Any

import pytest

from common.errors import InvalidInput
from operators.core.pools import Pool, PoolNode, Resize, Shape
from operators.kube.client import MANAGER
from operators.pools.groups import POOLS, WorkerGroup, groups_of, worker_groups
from tests.unit.operators.test_pools_of_sets import node

SHAPE = {"vendor": "nvidia", "model": "H100", "devices": 2}
TOLD = {"gpu": {"minReplicas": 0, "maxReplicas": 4, "shape": SHAPE}}


def group(replicas: int | None = 2, named: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    body = {"groupName": "gpu", "minReplicas": 0, "maxReplicas": 4, "replicas": replicas, **changes}
    if named is not None:
        body["scaleStrategy"] = {"workersToDelete": named}
    return {key: value for key, value in body.items() if value is not None}


def worker_group(body: dict[str, Any], told: Any = TOLD["gpu"], **pods: bool) -> WorkerGroup:
    return WorkerGroup("/cluster", 1, body, told, pods)


def pool(body: dict[str, Any], *nodes: dict[str, Any], told: Any = TOLD["gpu"], **pods: bool) -> Pool:
    named = {one["metadata"]["name"]: one for one in nodes}
    return worker_group(body, told, **pods).pool(named, dict.fromkeys(named, 5.0))


def test_nodes_are_those_of_pods_that_stay() -> None:
    nodes = [node(pod) for pod in ("a", "b", "c", "stranger")]
    found = pool(group(named=["b"]), *nodes, node("d", pool="cpu"), a=False, b=False, c=True, d=False)
    assert found.nodes == (PoolNode("n-a", "a", 5.0), PoolNode("n-d", "d", 5.0)), "whatever they say else"
    assert found.pods == {"a", "d"}
    assert (found.least, found.most, found.replicas) == (0, 4, 2)
    assert (found.shape.model, found.shape.memory_bytes) == ("H100", 80)


@pytest.mark.parametrize(
    ("body", "told", "want"),
    [
        (group(3), {"minReplicas": 1, "maxReplicas": 2}, (3, 1, 2)),
        (group(3, maxReplicas=2), TOLD["gpu"], (2, 0, 2)),
        (group(0, minReplicas=2), TOLD["gpu"], (2, 2, 4)),
        (group(None), TOLD["gpu"], (0, 0, 4)),
        (group(3), {}, (3, 3, 3)),
        (group(3), {"minReplicas": "x", "maxReplicas": -1}, (3, 3, 3)),
    ],
)
def test_limits_are_the_told_ones_within_those_that_kuberay_keeps(
    body: dict[str, Any], told: Any, want: tuple[int, int, int]
) -> None:
    found = pool(body, told=told)
    assert (found.replicas, found.least, found.most) == want


def test_without_a_node_the_shape_is_as_told() -> None:
    assert pool(group()).shape == Shape("nvidia", "H100", 2)
    assert pool(group(), told={"shape": "none"}).shape == Shape("")


def test_number_and_names_are_one_write_that_fails_where_the_group_is_another() -> None:
    [name, number, names, to, going] = worker_group(group(3, ["old"]), a=False).changes(
        Resize("gpu", 2, take=("a",))
    )
    at = "/spec/workerGroupSpecs/1"
    assert name == {"op": "test", "path": f"{at}/groupName", "value": "gpu"}
    assert number == {"op": "test", "path": f"{at}/replicas", "value": 3}
    assert names == {"op": "test", "path": f"{at}/scaleStrategy", "value": {"workersToDelete": ["old"]}}
    assert to == {"op": "add", "path": f"{at}/replicas", "value": 2}
    assert going["value"] == {"workersToDelete": ["old", "a"]}


def test_names_stay_while_their_pods_do_and_go_when_more_are_wanted() -> None:
    grown = worker_group(group(1, ["gone", "leaving"]), leaving=True, b=False).changes(Resize("gpu", 2))
    assert grown[-1]["value"] == {"workersToDelete": ["leaving"]}
    [name, to, going] = worker_group(group(None)).changes(Resize("gpu", 1))
    assert (name["op"], to["value"], going["value"]) == ("test", 1, {"workersToDelete": []})


@pytest.mark.parametrize(
    "changes",
    [{"suspend": True}, {"enableInTreeAutoscaling": True}, {"workerGroupSpecs": None}],
)
def test_clusters_that_somebody_else_sizes_are_left_alone(changes: dict[str, Any]) -> None:
    spec = {"workerGroupSpecs": [group()]}
    assert len(groups_of("/c", {"spec": spec}, TOLD, {})) == 1
    assert groups_of("/c", {"spec": {**spec, **changes}}, TOLD, {}) == []


@pytest.mark.parametrize("told", [None, [], "gpu", {"gpu": 3}, {"other": {}}])
def test_annotations_that_nobody_understands_make_no_pools(told: Any) -> None:
    assert groups_of("/c", {"spec": {"workerGroupSpecs": [group()]}}, told, {}) == []


@pytest.mark.parametrize("changes", [{"suspend": True}, {"numOfHosts": 2}])
def test_groups_whose_number_is_not_that_of_their_pods_are_left_alone(changes: dict[str, Any]) -> None:
    assert groups_of("/c", {"spec": {"workerGroupSpecs": [group(**changes)]}}, TOLD, {}) == []


async def test_clusters_are_found_with_their_pods_by_groups() -> None:
    asked: list[Any] = []
    disowned: list[Any] = []

    ours = {"manager": MANAGER, "operation": "Update"}

    class Server:
        async def each(self, path: str, **query: str) -> Any:
            asked.append((path, query["labelSelector"]))
            if path.endswith("/pods"):
                for name, more in (("x", {}), ("y", {"deletionTimestamp": "now"})):
                    yield {"metadata": {"name": name, "labels": {"ray.io/group": "gpu"}, **more}}
            else:
                metadata: dict[str, Any] = {
                    "name": "ray",
                    "annotations": {POOLS: '{"gpu": {"maxReplicas": 3}}'},
                }
                metadata |= {"managedFields": [{"manager": "helm", "operation": "Apply"}, ours]}
                groups = [{"groupName": "fixed"}, group()]
                yield {"metadata": metadata, "spec": {"workerGroupSpecs": groups}}

        async def patch(self, path: str, steps: Any) -> None:
            disowned.append(steps)
            raise InvalidInput(path)

    server: Any = Server()
    [found] = await worker_groups(server, "ai")
    assert asked == [
        ("/apis/ray.io/v1/namespaces/ai/rayclusters", POOLS),
        ("/api/v1/namespaces/ai/pods", "ray.io/cluster=ray,ray.io/group"),
    ]
    assert (found.name, found.index, found.pods) == ("gpu", 1, {"x": False, "y": True})
    at = "/metadata/managedFields/1"
    steps = [{"op": "test", "path": at, "value": ours}, {"op": "remove", "path": at}]
    assert disowned == [steps], "and goes on where that fails"
    with pytest.raises(InvalidInput, match=r"/namespaces/ai/rayclusters/ray$"):
        await found.resize(server, Resize("gpu", 3))
