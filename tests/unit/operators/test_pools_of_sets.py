"""StatefulSets and nodes as pools."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.clock import VirtualClock
from common.settings import Settings
from operators.control.link import ControlLink
from operators.control.view import ControlView, Item
from operators.core.pools import Pool, PoolNode, Shape
from operators.kube.client import Kube
from operators.kube.cluster import Cluster
from operators.parts import Parts
from operators.pools.follow import Pools
from operators.pools.nodes import DRAINED, POD, POOL, is_there, shape_of, used_nodes
from operators.pools.sets import LEAST, MOST, SHAPE, NodeSet


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
    return NodeSet("/set", stateful_set(notes)).pool(named, dict.fromkeys(idle, 5.0))


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


async def test_a_demand_that_more_nodes_do_not_help_grows_no_pool_and_holds_none() -> None:
    """Whatever control keeps it waiting for: the pool goes back, and does not come again for it."""
    clock = VirtualClock()
    view = ControlView(cast(ControlLink, None), ["Node", "Workload"])
    found = stateful_set({LEAST: "0", MOST: "4"})

    class Server:
        async def each(self, path: str, **query: str) -> Any:
            yield found

        async def merge(self, path: str, patch: dict[str, Any]) -> None:
            found["spec"]["replicas"] = patch["spec"]["replicas"]

    class Control:
        async def apply(self, document: dict[str, Any]) -> dict[str, Any]:
            known = view.find(Item("Node", "", document["metadata"]["name"]))
            assert known is not None
            return {"resource": {**known, **document, "status": known["status"]}}

        async def delete(self, plural: str, name: str) -> None:
            pass

    role = {"replicas": 1, "devices": {"count": 2}}
    pending = {"phase": "Pending", "pending": [{"code": "DevicesBusy"}]}
    view.learn(
        {
            "kind": "Workload",
            "metadata": {"name": "w", "project": "p"},
            "spec": {"roles": [role]},
            "status": pending,
        }
    )
    wanted = SimpleNamespace(
        pools_namespace="ns", pools_kind="StatefulSet", pools_look_seconds=1.0, pools_cool_seconds=60.0
    )
    parts = Parts(Cluster("c"), cast(Kube, Server()), cast(ControlLink, Control()), view, clock)
    pools = Pools(parts, cast(Settings, SimpleNamespace(operator=wanted)))
    found["spec"]["replicas"], sizes = 1, []
    for _ in range(400):
        for ordinal in range(4):
            item = Item("Node", "", f"n-set-{ordinal}")
            is_wanted = ordinal < found["spec"]["replicas"]
            if is_wanted and view.find(item) is None:
                view.learn({**node(f"set-{ordinal}"), "kind": "Node"})
            elif not is_wanted:
                view.forget(item)
        await pools._look()
        sizes.append(found["spec"]["replicas"])
        clock.advance(5.0)
    assert max(sizes) == 1
    assert sizes[-300:] == [0] * 300
