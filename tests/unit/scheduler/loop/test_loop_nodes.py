"""The loop when devices break, nodes are drained, come and go, and control starts again."""

import pytest
from prometheus_client import REGISTRY

from common.resources import Node
from common.resources.meta import Metadata
from common.resources.pool import NodeSpec
from common.resources.workload import RestartPolicy, WorkloadAffinity
from scheduler.core.model.catalogue import Catalogue
from scheduler.translate.views import LATE, node_view
from tests.unit.scheduler.loop_scene import Scene
from tests.unit.scheduler.pool_scene import PoolScene, devices


@pytest.fixture
async def scene() -> Scene:
    scene = await Scene().set_up()
    del scene.fabric.hosts["c"]
    return scene


async def drain(scene: Scene, name: str) -> None:
    await scene.store.apply(Node(metadata=Metadata(name=name), spec=NodeSpec(drain=True)))


async def test_a_broken_device_is_left_and_not_given_out_again(scene: Scene) -> None:
    await scene.submit()
    await scene.steps(2)
    rank = (await scene.get()).status.ranks[0]
    scene.fabric.set_device(rank.node, rank.grants[0].index, healthy=False, fault="XID 79")
    await scene.steps(4)
    status = (await scene.get()).status
    assert (status.phase, status.attempt, status.restarts) == ("Running", 2, 0)
    assert status.ranks[0].grants[0].device != rank.grants[0].device
    node = await scene.store.get(Node, rank.node)
    assert [device.fault for device in node.status.devices if not device.healthy] == ["XID 79"]
    assert "Leaving" in await scene.events()


async def test_devices_that_others_may_have_are_not_given_out_but_what_runs_stays(scene: Scene) -> None:
    await scene.submit(count=2)
    await scene.steps(2)
    node = (await scene.get()).status.ranks[0].node
    for name, host in scene.fabric.hosts.items():
        host.withheld = frozenset(device.id for device in host.devices)
        host.taken = f"held in Ray by another job on {name}"
    await scene.submit("second")
    await scene.steps(2)
    assert (await scene.get()).status.phase == "Running"
    assert (await scene.get("second")).status.phase == "Pending"
    condition = (await scene.store.get(Node, node)).status.condition("AcceleratorsHeld")
    assert condition is not None
    assert (condition.status, condition.message) == ("False", f"held in Ray by another job on {node}")
    for host in scene.fabric.hosts.values():
        host.withheld, host.taken = frozenset(), ""
    await scene.steps(2)
    assert (await scene.get("second")).status.phase == "Running"


async def test_a_node_that_was_started_again_is_not_lost(scene: Scene) -> None:
    """As after ``down`` and ``up``, or when a host has booted: no error stands in the events."""
    uid = await scene.submit()
    await scene.steps(2)
    node = (await scene.get()).status.ranks[0].node
    scene.fabric.hosts[node].gangs.clear()
    scene.loop = scene.new_loop()
    await scene.steps(4, seconds=20.0)
    status = (await scene.get()).status
    assert (status.phase, status.restarts) == ("Running", 0)
    assert len(scene.gangs(uid)) == 1
    told = await scene.store.events(kind="Workload")
    (event,) = [event for event in told if event.reason == "NodeRestarted"]
    assert event.message == f"node {node} was started again, and rank 0 has ended with what ran there"
    assert {event.level for event in told} == {"info", "warning"}


async def test_a_drained_node_is_left_by_all(scene: Scene) -> None:
    uid = await scene.submit("server", readiness=True)
    await scene.steps(2)
    scene.fabric.ready(uid)
    await scene.submit("batch")
    await scene.steps(2)
    node = (await scene.get("server")).status.ranks[0].node
    assert (await scene.get("batch")).status.ranks[0].node == node
    await drain(scene, node)
    await scene.steps(2)
    assert len(scene.gangs(uid)) == 2, "a second one starts elsewhere before the first one ends"
    assert (await scene.get("server")).status.phase == "Ready"
    scene.fabric.ready(uid)
    await scene.steps(3)
    assert {name for name, _, _ in scene.fabric.alive()} == {"a", "b"} - {node}
    assert (await scene.get("server")).status.phase == "Ready"


async def test_a_node_that_comes_and_goes_waits_longer_each_time(scene: Scene) -> None:
    await scene.steps(1)
    waits = []
    for _ in range(4):
        scene.fabric.hosts["a"].state = "Lost"
        await scene.steps(1, seconds=1.0)
        scene.fabric.hosts["a"].state = "Alive"
        await scene.steps(1, seconds=1.0)
        status = (await scene.store.get(Node, "a")).status
        waits.append(
            ((status.flapping_until_ms or 0) - scene.clock.now_ms()) // 1000
            if status.flapping_until_ms
            else 0
        )
    assert waits == [0, 60, 120, 240]
    scene.fabric.hosts["b"].state = "Lost"
    await scene.submit()
    await scene.steps(2)
    assert (await scene.get()).status.phase == "Pending"
    await scene.steps(2, seconds=240.0)
    assert (await scene.get()).status.phase == "Running"
    await scene.steps(1, seconds=4000.0)
    assert (await scene.store.get(Node, "a")).status.flaps == 0


async def test_a_restart_of_control_is_no_flap_and_loses_nothing_that_shows_up_late(scene: Scene) -> None:
    uid = await scene.submit()
    await scene.steps(2)
    node = (await scene.get()).status.ranks[0].node
    host = scene.fabric.hosts.pop(node)
    scene.loop = scene.new_loop()
    await scene.steps(2, seconds=2.0)
    assert (await scene.get()).status.phase == "Running"
    scene.fabric.hosts[node] = host
    await scene.steps(2, seconds=1.0)
    status = (await scene.get()).status
    assert (status.phase, status.attempt, list(scene.gangs(uid))) == ("Running", 1, [1])
    assert (await scene.store.get(Node, node)).status.flaps == 0


async def test_a_node_that_never_shows_up_again_is_lost_after_a_while(scene: Scene) -> None:
    await scene.submit()
    await scene.steps(2)
    node = (await scene.get()).status.ranks[0].node
    del scene.fabric.hosts[node]
    scene.loop = scene.new_loop(node_lost_seconds=20)
    await scene.steps(5, seconds=10.0)
    status = (await scene.get()).status
    assert (status.phase, status.attempt) == ("Running", 2)


async def test_a_drain_that_is_called_off_leaves_nothing_behind(scene: Scene) -> None:
    del scene.fabric.hosts["b"]
    uid = await scene.submit("server", count=2, readiness=True)
    await scene.steps(2)
    scene.fabric.ready(uid)
    await drain(scene, "a")
    await scene.steps(2)
    status = (await scene.get("server")).status
    assert (status.phase, bool(status.pending)) == ("Ready", True)
    await scene.store.apply(Node(metadata=Metadata(name="a")))
    await scene.steps(1)
    status = (await scene.get("server")).status
    assert (status.phase, status.attempt, status.pending) == ("Ready", 1, [])


async def test_a_node_tells_its_labels_its_data_and_its_load(scene: Scene) -> None:
    host = scene.fabric.hosts["a"]
    host.labels, host.cached = {"computility.io/rack": "r1", "zone": "z"}, ("llama",)
    scene.fabric.set_device("a", 0, utilisation_percent=93, power_watts=410)
    await scene.store.apply(Node(metadata=Metadata(name="a"), spec=NodeSpec(labels={"zone": "mine"})))
    await scene.steps(1)
    node = await scene.store.get(Node, "a")
    assert (node.status.labels["computility.io/rack"], node.status.cached) == ("r1", ["llama"])
    view = node_view(node, Catalogue(()))
    assert (view.label("zone"), view.cached) == ("mine", {"llama"})
    labels = {"node": "a", "device": "a-nvidia-0", "vendor": "nvidia", "model": "H100"}
    assert REGISTRY.get_sample_value("computility_device_utilisation_percent", labels) == 93
    assert REGISTRY.get_sample_value("computility_device_power_watts", labels) == 410
    assert REGISTRY.get_sample_value("computility_device_healthy", labels) == 1
    assert REGISTRY.get_sample_value("computility_device_temperature_celsius", labels) is None


async def test_work_goes_to_where_its_data_is(scene: Scene) -> None:
    scene.fabric.hosts["b"].cached = ("llama",)
    await scene.submit(affinity=WorkloadAffinity(data=["llama"]))
    await scene.steps(2)
    assert (await scene.get()).status.ranks[0].node == "b"


async def test_a_node_that_is_late_is_given_nothing_new_and_keeps_what_runs(scene: Scene) -> None:
    uid = await scene.submit(count=2)
    await scene.steps(2)
    node = (await scene.get()).status.ranks[0].node
    other = next(name for name in ("a", "b") if name != node)
    scene.fabric.hosts[other].state = "Silent"
    await scene.steps(1, seconds=4.0)
    assert node_view(await scene.store.get(Node, other), Catalogue(())).alive, "one answer late is no silence"
    await scene.steps(1, seconds=4.0)
    await scene.submit("new")
    await scene.steps(2, seconds=4.0)
    waiting = (await scene.get("new")).status
    assert (waiting.phase, scene.fabric.hosts[other].gangs) == ("Pending", {})
    assert "1 of 2 nodes: the node does not answer" in [reason.message for reason in waiting.pending]
    condition = (await scene.store.get(Node, other)).status.condition("Responsive")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "AgentLate")
    scene.fabric.hosts[node].state = "Silent"
    await scene.steps(3, seconds=4.0)
    assert ((await scene.get()).status.phase, list(scene.gangs(uid))) == ("Running", [1])
    scene.fabric.hosts[other].state = "Alive"
    await scene.steps(2)
    assert (await scene.get("new")).status.ranks[0].node == other
    status = (await scene.store.get(Node, other)).status
    assert (status.is_true("Responsive"), status.flaps) == (True, 0)


async def test_a_silence_outlasts_a_restart_of_control_and_is_written_once(scene: Scene) -> None:
    await scene.steps(1)
    scene.fabric.hosts["a"].state = scene.fabric.hosts["b"].state = "Silent"
    await scene.steps(2, seconds=6.0)
    written = await scene.store.revision()
    scene.loop = scene.new_loop()
    await scene.steps(3, seconds=1.0)
    assert await scene.store.revision() == written
    await scene.submit()
    await scene.steps(3)
    assert (await scene.get()).status.phase == "Pending"


async def test_a_node_that_is_late_is_named_with_how_long_it_has_been_silent() -> None:
    scene = PoolScene()
    await scene.project()
    await scene.node("a", devices("a"))
    await scene.workload("w")
    assert "fits now" in (await scene.explain("w")).message
    node = await scene.store.get(Node, "a")
    node.status.set_condition("Responsive", False, LATE, now_ms=scene.clock.now_ms())
    await scene.store.set_status(node)
    scene.clock.advance(12)
    answer = await scene.explain("w")
    assert answer.message == "waits for a node to come back: the node does not answer"
    assert (answer.reasons[-1].code, answer.reasons[-1].nodes) == ("AgentLate", 1)
    assert answer.reasons[-1].message.startswith("node a has not answered for 12 s")


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
