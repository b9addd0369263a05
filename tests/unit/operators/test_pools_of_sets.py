"""StatefulSets and nodes as pools."""

import json
from typing import Any

import pytest

from operators.core.pools import Pool, PoolNode, Shape
from operators.pools import DRAINED, LEAST, MOST, POD, POOL, SHAPE, is_there, pool_of, shape_of, used_nodes


def stateful_set(notes: dict[str, str] | None) -> dict[str, Any]:
    metadata = {"name": "set", "labels": {POOL: "gpu"}, "annotations": notes}
    return {"metadata": metadata, "spec": {"replicas": 2}}


def node(
    pod: str, *, devices: int = 2, pool: str = "gpu", ready: str = "True", **changes: Any
) -> dict[str, Any]:
    one = {"vendor": "nvidia", "model": "H100", "memoryBytes": 80}
    return {
        "metadata": {"name": f"n-{pod}", "annotations": changes.get("notes", {})},
        "spec": {"drain": changes.get("drain", False), "cordoned": changes.get("cordoned", False)},
        "status": {
            "labels": {POOL: pool, POD: pod},
            "devices": [one] * devices,
            "cpuCores": 4,
            "memoryBytes": 100,
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def pool(*nodes: dict[str, Any], idle: tuple[str, ...] = (), notes: dict[str, str] | None = None) -> Pool:
    named = {one["metadata"]["name"]: one for one in nodes}
    return pool_of("gpu", stateful_set(notes), named, dict.fromkeys(idle, 5.0))


def test_nodes_are_those_whose_pods_are_of_the_set() -> None:
    found = pool(node("set-1"), node("set-0"), node("other-0"), node("set-x"), node("set-2", pool="cpu"))
    assert found.nodes == (PoolNode("n-set-0", 0), PoolNode("n-set-1", 1))
    assert (found.least, found.most, found.replicas) == (2, 2, 2)
    shape = Shape("nvidia", "H100", 2, 80, 4000, 100, ((POOL, "gpu"),))
    assert found.shape == shape == shape_of(node("set-0"))


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({}, PoolNode("n-set-0", 0, 5.0)),
        ({"cordoned": True}, PoolNode("n-set-0", 0)),
        ({"drain": True}, PoolNode("n-set-0", 0)),
        ({"drain": True, "notes": {DRAINED: "pools"}}, PoolNode("n-set-0", 0, 5.0, True)),
    ],
)
def test_what_others_cordoned_is_not_ours_to_judge(changes: dict[str, Any], want: PoolNode) -> None:
    assert pool(node("set-0", **changes), idle=("n-set-0",)).nodes == (want,)


def test_limits_and_shape_are_as_told_until_a_node_has_joined() -> None:
    told = json.dumps({"vendor": "amd", "devices": 8, "labels": {"a": "b"}})
    found = pool(notes={LEAST: "1", MOST: "9", SHAPE: told})
    assert (found.least, found.most) == (1, 9)
    assert found.shape == Shape("amd", devices=8, labels=(("a", "b"),))
    assert pool(node("set-0", devices=0), notes={SHAPE: told}).shape.vendor == "amd"


@pytest.mark.parametrize("told", ["", "[]", "no json", '{"devices": "many"}', '{"labels": 3}', "null"])
def test_annotations_that_nobody_understands_ask_for_nothing(told: str) -> None:
    found = pool(notes={LEAST: "-1", MOST: "x", SHAPE: told})
    assert (found.least, found.most) == (2, 2)
    assert found.shape.devices == 0


def test_nodes_are_in_use_while_anything_is_placed_on_them() -> None:
    def workload(phase: str, **status: Any) -> dict[str, Any]:
        return {"status": {"phase": phase, **status}}

    used = used_nodes(
        [
            workload("Running", ranks=[{"node": "a", "state": "Ready"}, {"node": "b", "state": "Exited"}]),
            workload("Succeeded", ranks=[{"node": "c", "state": "Ready"}]),
            workload("Ready", next={"ranks": [{"node": "d", "state": "Assigned"}]}),
            workload("Pending", nominated={"ranks": [{"node": "e"}]}),
        ]
    )
    assert used == {"a", "d", "e"}


def test_lost_nodes_are_not_there() -> None:
    assert is_there(node("set-0"))
    assert is_there({"status": {}})
    assert not is_there(node("set-0", ready="False"))
