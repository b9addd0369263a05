"""What nodes tell of themselves: events, and what is left on those that are drained."""

import pytest

from common.resources import Node
from common.resources.meta import Metadata
from common.resources.pool import NodeSpec
from common.resources.workload import RestartPolicy
from tests.unit.scheduler.loop_scene import Scene


@pytest.fixture
async def scene() -> Scene:
    scene = await Scene().set_up()
    del scene.fabric.hosts["c"]
    return scene


async def drain(scene: Scene, name: str) -> None:
    await scene.store.apply(Node(metadata=Metadata(name=name), spec=NodeSpec(drain=True)))


async def told_of(scene: Scene, name: str) -> list[tuple[str, str]]:
    """Level and reason of each event of a node, without who wrote it."""
    return [(event.level, event.reason) for event in await scene.store.events(kind="Node", name=name)]


async def test_a_node_tells_that_it_joined_was_lost_and_came_back(scene: Scene) -> None:
    await scene.steps(2)
    assert await told_of(scene, "a") == [("info", "Joined")]
    (joined,) = await scene.store.events(kind="Node", name="a")
    assert joined.message.startswith("joined with 2 × nvidia/")
    scene.fabric.hosts["a"].state = "Lost"
    await scene.steps(2, seconds=60.0)
    scene.fabric.hosts["a"].state = "Alive"
    await scene.steps(2, seconds=60.0)
    assert await told_of(scene, "a") == [("info", "Joined"), ("error", "NodeLost"), ("info", "Returned")]
    scene.fabric.set_device("b", 0, healthy=False, fault="XID 79")
    await scene.steps(2, seconds=20.0)
    scene.fabric.set_device("b", 0, healthy=True, fault="")
    await scene.steps(2, seconds=20.0)
    assert await told_of(scene, "b") == [
        ("info", "Joined"),
        ("warning", "DeviceFault"),
        ("info", "DeviceMended"),
    ]
    (fault,) = await scene.store.events(kind="Node", name="b", reason="DeviceFault")
    assert "XID 79" in fault.message


async def test_a_node_that_comes_and_goes_fills_no_log(scene: Scene) -> None:
    await scene.steps(1)
    for turn in range(40):
        scene.fabric.set_device("a", 0, healthy=turn % 2 == 1, fault="loose" if turn % 2 == 0 else "")
        await scene.steps(1, seconds=1.0)
    assert len(await told_of(scene, "a")) <= 1 + 2 * 2


async def test_a_control_process_that_starts_again_has_nothing_to_tell(scene: Scene) -> None:
    await scene.submit()
    await scene.steps(3)
    before = [event.id for event in await scene.store.events()]
    scene.loop = scene.new_loop()
    await scene.steps(5, seconds=10.0)
    assert [event.id for event in await scene.store.events()] == before
    assert (await scene.get()).status.attempt == 1


async def test_a_drained_node_says_what_is_left_and_why(scene: Scene) -> None:
    await scene.submit("stays", readiness=True, restart=RestartPolicy(policy="Never"))
    await scene.steps(2)
    node = (await scene.get("stays")).status.ranks[0].node
    await drain(scene, node)
    await scene.steps(3)
    condition = (await scene.store.get(Node, node)).status.condition("Drained")
    why = "it runs to its end, as restart.policy is Never"
    assert condition is not None
    assert (condition.status, condition.message) == ("False", f"1 left: p/stays ({why})")
    await scene.steps(5, seconds=10.0)
    drained = [event for event in await scene.store.events(kind="Node", name=node) if "rain" in event.reason]
    assert sorted((event.level, event.reason) for event in drained) == [
        ("info", "Draining"),
        ("warning", "DrainWaits"),
    ], "each is told once"
    scene.fabric.exit((await scene.get("stays")).metadata.uid, 0, 0)
    await scene.steps(4, seconds=10.0)
    status = (await scene.store.get(Node, node)).status
    assert status.is_true("Drained")
    assert (await told_of(scene, node))[-1] == ("info", "Drained")
    await scene.store.apply(Node(metadata=Metadata(name=node)))
    await scene.steps(3, seconds=10.0)
    assert (await scene.store.get(Node, node)).status.condition("Drained") is None
