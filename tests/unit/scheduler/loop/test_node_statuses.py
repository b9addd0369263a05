"""What the store is told of nodes: every fact at once, load now and then and in coarse steps."""

from dataclasses import replace
from typing import Any

import pytest

from common.clock import VirtualClock
from common.guard import HANDLED, Guard
from common.resources import Node
from common.resources.pool import NodeStatus
from common.store.memory import MemoryStore
from scheduler.nodes import FLAP_WINDOW_MS, LOAD_PERIOD_MS, LOST, NodeWriter
from scheduler.ports import Billing, GangRecord, NodeObservation
from scheduler.translate.kept_world import WorldKeeper
from scheduler.translate.observed import Observed
from tests.fixtures.fabric import accelerator

GIB = 1024**3


class Scene:
    """One node, and who writes its status."""

    def __init__(self) -> None:
        self.clock, self.observed = VirtualClock(), NodeObservation("n", "ray-1", "10.0.0.1", "Alive")
        self.store = MemoryStore(self.clock)
        self.keeper, self.look = WorldKeeper(self.store), Observed()
        guard, world = Guard("nodes", self.clock), self.keeper.world
        self.writer = NodeWriter(self.store, self.clock, 60.0, 5.0, guard, world)

    async def see(self, seconds: float = 0.0, **changes: Any) -> NodeStatus:
        """The status after a look at the node as it is now; gone where ``state`` is Unseen."""
        self.clock.advance(seconds)
        self.observed = replace(self.observed, **changes)
        seen = [] if self.observed.state == "Unseen" else [self.observed]
        await self.keeper.follow()
        await self.writer.sync(self.keeper.world, self.look, self.look.follow(seen).nodes)
        return (await self.store.get(Node, "n")).status


@pytest.fixture
def scene() -> Scene:
    return Scene()


def reason(status: NodeStatus, name: str = "Ready") -> tuple[str, str]:
    found = status.condition(name)
    return (found.status, found.reason) if found else ("", "")


async def test_all_that_a_node_tells_is_written(scene: Scene) -> None:
    facts: dict[str, Any] = {
        "cpu_cores": 8,
        "memory_bytes": 64 * GIB,
        "cluster": "west",
        "labels": {"zone": "z"},
        "cached": ("org/m",),
        "drivers": {"amd": "6.8"},
        "probe_faults": {"ascend": "its tool hangs"},
    }
    status = await scene.see(devices=(accelerator("n", 0),), **facts)
    assert (status.ray_node_id, status.address) == ("ray-1", "10.0.0.1")
    told = {name: getattr(status, name) for name in facts}
    assert told == {**facts, "cached": ["org/m"]}
    assert [device.id for device in status.devices] == ["n-nvidia-0"]
    assert reason(status) == ("True", "AgentAnswers")
    assert status.observed_generation == (await scene.store.get(Node, "n")).metadata.generation


async def test_load_is_told_in_coarse_steps(scene: Scene) -> None:
    load = {
        "memory_used_bytes": 41 * GIB,
        "utilisation_percent": 44,
        "temperature_celsius": 63,
        "power_watts": 312,
    }
    device = accelerator("n", 0).model_copy(update=load)
    status = await scene.see(devices=(device,), memory_bytes=64 * GIB, memory_available_bytes=31 * GIB)
    told = status.devices[0]
    assert told.memory_used_bytes == int(2.5 * GIB) * 16 == 40 * GIB
    assert (told.utilisation_percent, told.temperature_celsius, told.power_watts) == (40, 65, 300)
    assert status.memory_available_bytes == 32 * GIB
    up = device.model_copy(update={"utilisation_percent": 45, "temperature_celsius": 62, "power_watts": 313})
    told = (await scene.see(20, devices=(up,))).devices[0]
    assert (told.utilisation_percent, told.temperature_celsius, told.power_watts) == (50, 60, 325)
    blank = device.model_copy(update=dict.fromkeys(load))
    told = (await scene.see(20, devices=(blank,))).devices[0]
    assert (told.memory_used_bytes, told.power_watts) == (None, None)


async def test_a_change_of_load_alone_is_written_now_and_then_and_a_fault_at_once(scene: Scene) -> None:
    def device(load: int, **more: Any) -> Any:
        return (accelerator("n", 0).model_copy(update={"utilisation_percent": load, **more}),)

    await scene.see(devices=device(10))
    version = await scene.store.revision()
    status = await scene.see(LOAD_PERIOD_MS / 1000 - 0.1, devices=device(90))
    assert status.devices[0].utilisation_percent == 10
    assert await scene.store.revision() == version
    status = await scene.see(devices=device(90, healthy=False, fault="XID 79"))
    assert (status.devices[0].utilisation_percent, status.devices[0].fault) == (10, "XID 79")
    assert (await scene.see(0.1, devices=device(90))).devices[0].utilisation_percent == 90
    fresh = (*device(90), accelerator("n", 1).model_copy(update={"utilisation_percent": 33}))
    status = await scene.see(devices=fresh)
    assert status.devices[1].utilisation_percent == 30, "of a new device nothing older is known"


async def test_load_that_waits_for_its_time_is_written_whatever_comes_meanwhile(scene: Scene) -> None:
    device = accelerator("n", 0)
    await scene.see(devices=(device,))
    busy = device.model_copy(update={"utilisation_percent": 90})
    await scene.see(5.0, devices=(busy,))
    gang = GangRecord("w", 1, "", Billing("p", "acme", "w"), ())
    await scene.see(5.0, gangs=(gang,))
    status = await scene.see(5.0, devices=(busy.model_copy(),), gangs=())
    assert status.devices[0].utilisation_percent == 90
    status = await scene.see(LOAD_PERIOD_MS / 1000, devices=(device,))
    assert status.devices[0].utilisation_percent is None, "long after the last time it is written at once"


async def test_accelerators_that_another_job_has_are_told_until_they_are_back(scene: Scene) -> None:
    device = accelerator("n", 0)
    status = await scene.see(devices=(device, accelerator("n", 1)))
    assert reason(status, "AcceleratorsHeld") == ("", ""), "where it never was so nothing is said"
    status = await scene.see(withheld=frozenset((device.id,)), taken="1 of 2 GPU")
    assert reason(status, "AcceleratorsHeld") == ("False", "TakenByOthers")
    assert [(d.healthy, d.fault) for d in status.devices] == [(False, "1 of 2 GPU"), (True, "")]
    status = await scene.see(withheld=frozenset(), taken="")
    assert reason(status, "AcceleratorsHeld") == ("True", "Held")
    assert all(d.healthy for d in status.devices)


async def test_a_silent_node_is_late_after_a_while_and_answers_again(scene: Scene) -> None:
    await scene.see()
    assert reason(await scene.see(9.0, state="Silent"), "Responsive") == ("", ""), "asked after a rest"
    assert reason(await scene.see(4.9), "Responsive") == ("", "")
    assert reason(await scene.see(0.1), "Responsive")[0] == "False"
    assert reason(await scene.see()) == ("True", "AgentAnswers")
    status = await scene.see(1, state="Alive")
    assert reason(status, "Responsive") == ("True", "AgentAnswers")


async def test_a_node_that_flaps_waits_twice_as_long_each_time_and_an_hour_at_most(scene: Scene) -> None:
    waits = []
    await scene.see()
    for _ in range(9):
        assert reason(await scene.see(1, state="Lost")) == ("False", LOST)
        status = await scene.see(1, state="Alive")
        assert status.returned_ms == scene.clock.now_ms()
        until = status.flapping_until_ms
        waits.append(0 if until is None else (until - scene.clock.now_ms()) / 1000)
    assert waits == [0, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    status = await scene.see(FLAP_WINDOW_MS / 1000 - 0.001)
    assert status.flaps == 9
    status = await scene.see(0.001)
    assert (status.flaps, status.returned_ms, status.flapping_until_ms) == (0, None, None)
    await scene.see(1, state="Lost")
    await scene.see(1, state="Alive")
    await scene.see(FLAP_WINDOW_MS / 1000 + 1, state="Lost")
    assert (await scene.see(1, state="Alive")).flaps == 1, "that was long ago"


async def test_a_node_that_is_not_seen_keeps_its_place_and_is_not_ready(scene: Scene) -> None:
    await scene.see(devices=(accelerator("n", 0),))
    status = await scene.see(state="Unseen")
    assert (reason(status), len(status.devices)) == (("False", "NotSeen"), 1)
    version = await scene.store.revision()
    await scene.see()
    assert await scene.store.revision() == version


async def test_a_node_that_was_set_aside_before_a_restart_is_told_to_be_handled_again(scene: Scene) -> None:
    await scene.see()
    node = await scene.store.get(Node, "n")
    node.status.set_condition(HANDLED, False, "InternalError", "it broke", now_ms=1, generation=1)
    await scene.store.set_status(node)
    status = await scene.see()
    assert reason(status, HANDLED) == ("True", HANDLED)
    revision = await scene.store.revision()
    await scene.see()
    assert await scene.store.revision() == revision
