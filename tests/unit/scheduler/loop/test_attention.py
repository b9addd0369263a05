"""Which workloads are looked at again although nothing has changed, how soon the loop looks at all nodes
again, and gauges of what is gone."""

import asyncio
from typing import Any, cast

import pytest
from prometheus_client import Gauge

from common.clock import VirtualClock
from common.resources import Metadata, Workload
from common.resources.workload import NextGang, WorkloadRole, WorkloadSpec, WorkloadStatus
from scheduler import metrics
from scheduler.attention import SWEEP_SECONDS, Attention, is_at_rest
from scheduler.loop import SPANS_SECONDS
from scheduler.translate.observed import Observed
from tests.unit.scheduler.loop_scene import Scene

SOON_SECONDS, LATE_SECONDS = 0.5, 10.0
SUCCESSOR = NextGang(cause="Update", beside=True, attempt=2, digest="d", ranks=[])


class World:
    def __init__(self, workload: Workload) -> None:
        self.workloads = {"u": workload}


@pytest.mark.parametrize(
    ("status", "rests"),
    [
        ({"phase": "Running"}, True),
        ({"phase": "Ready"}, True),
        ({"phase": "Pending"}, True),
        ({"phase": "Succeeded"}, True),
        ({"phase": "Starting"}, False),
        ({"phase": "Restarting", "next_start_ms": 5}, False),
        ({"phase": "Running", "next_start_ms": 5}, False),
        ({"phase": "Pending", "next_start_ms": 5}, True),
        ({"phase": "Running", "next": SUCCESSOR}, False),
        ({"phase": "Ready", "next": SUCCESSOR}, False),
    ],
)
def test_what_time_or_a_successor_will_change_is_looked_at_again(status: dict[str, Any], rests: bool) -> None:
    spec = WorkloadSpec(roles=[WorkloadRole(name="main", command=["x"])])
    workload = Workload(metadata=Metadata(name="w", project="p"), spec=spec, status=WorkloadStatus(**status))
    assert is_at_rest("u", cast(Any, World(workload)), Observed()) is rests


def test_a_loop_that_begins_shows_nothing_of_what_was_before() -> None:
    kept = [
        gauge for gauge in vars(metrics).values() if isinstance(gauge, Gauge) and gauge is not metrics.TIDE
    ]
    for gauge in kept:
        gauge.labels(*("gone" for _ in gauge._labelnames)).set(1)
    Scene()
    assert [sample for gauge in kept for family in gauge.collect() for sample in family.samples] == []


class NothingNew:
    def take_workloads(self) -> set[str]:
        return set()


class ManyWorkloads:
    def __init__(self, count: int) -> None:
        self.workloads = {f"w{number}": None for number in range(count)}

    def reader(self) -> NothingNew:
        return NothingNew()


@pytest.mark.parametrize("count", [1, 7, 100])
@pytest.mark.parametrize("parts", [3, 10, 144])
def test_each_is_looked_at_as_often_as_all_others(count: int, parts: int) -> None:
    clock, world = VirtualClock(), ManyWorkloads(count)
    attention = Attention(cast(Any, world), clock)
    looked: list[str] = []
    for number in range(1, 2 * parts + 1):
        clock.advance(SWEEP_SECONDS / parts)
        found = attention._sweep()
        assert len(found) == len(set(found))
        looked += found
        assert len(looked) == pytest.approx(count * number / parts, abs=count % parts + 1)
    times = [looked.count(name) for name in world.workloads]
    assert max(times) - min(times) <= 1
    assert min(times) >= 1


async def _rested() -> Scene:
    scene = await Scene().set_up()
    await scene.steps(2)
    return scene


async def test_a_pool_on_which_nothing_is_under_way_is_looked_at_seldom() -> None:
    scene = await Scene().set_up()
    assert scene.loop.tick_seconds() == SOON_SECONDS
    await scene.steps(2)
    assert scene.loop.tick_seconds() == LATE_SECONDS


async def test_what_waits_or_runs_to_an_end_is_looked_at_often() -> None:
    scene = await _rested()
    await scene.submit("too-wide", count=5)
    await scene.steps(3)
    assert (await scene.get("too-wide")).status.phase == "Pending"
    assert scene.loop.tick_seconds() == SOON_SECONDS
    await scene.store.delete(Workload, "too-wide", "p")
    await scene.submit("trains")
    await scene.steps(3)
    assert (await scene.get("trains")).status.phase == "Running"
    assert scene.loop.tick_seconds() == SOON_SECONDS


async def test_a_server_is_looked_at_often_until_it_is_ready() -> None:
    scene = await _rested()
    uid = await scene.submit("serves", readiness=True)
    await scene.steps(3)
    assert (await scene.get("serves")).status.phase == "Starting"
    assert scene.loop.tick_seconds() == SOON_SECONDS
    scene.fabric.ready(uid)
    await scene.steps(2)
    assert (await scene.get("serves")).status.phase == "Ready"
    assert scene.loop.tick_seconds() == LATE_SECONDS
    scene.fabric.exit(uid, 0, 1)
    await scene.steps(1)
    assert scene.loop.tick_seconds() == SOON_SECONDS


async def test_a_node_that_falls_silent_is_asked_often_until_it_is_lost() -> None:
    scene = await _rested()
    scene.fabric.hosts["a"].state = "Silent"
    await scene.steps(1)
    assert scene.loop.tick_seconds() == SOON_SECONDS
    scene.fabric.hosts["a"].state = "Lost"
    await scene.steps(2)
    assert scene.loop.tick_seconds() == LATE_SECONDS


async def test_at_rest_a_server_that_ends_is_looked_at_at_once() -> None:
    scene = await _rested()
    uid = await scene.submit("serves", readiness=True)
    await scene.steps(2)
    scene.fabric.ready(uid)
    scene.loop = scene.new_loop(cycle_seconds=0.01, rest_seconds=60.0)
    await scene.steps(2)
    stop = asyncio.Event()
    running = asyncio.create_task(scene.loop.run(stop))
    async with asyncio.timeout(10):
        while scene.loop.tick_seconds() < 1:
            await asyncio.sleep(0.01)
        scene.fabric.exit(uid, 0, 1)
        while (await scene.get("serves")).status.phase == "Ready":
            await asyncio.sleep(0.01)
        stop.set()
        await running
    status = (await scene.get("serves")).status
    assert (status.phase, status.restarts) == ("Restarting", 1)


async def test_device_time_that_is_over_ends_the_rest() -> None:
    scene = await _rested()
    uid = await scene.submit("serves", readiness=True)
    await scene.steps(3)
    scene.fabric.ready(uid)
    await scene.steps(2)
    assert scene.loop.tick_seconds() == LATE_SECONDS
    ticks = []
    for _ in range(60):
        scene.clock.advance(1)
        ticks.append(scene.loop.tick_seconds())
    assert ticks == sorted(ticks, reverse=True)
    assert (ticks[0], ticks[-1]) == (LATE_SECONDS, SPANS_SECONDS)


async def test_a_silent_node_is_asked_again_before_it_counts_as_lost() -> None:
    scene = await _rested()
    scene.loop = scene.new_loop(node_lost_seconds=6.0)
    await scene.steps(2)
    assert scene.loop.tick_seconds() == 3.0


async def test_a_pool_may_be_told_to_be_looked_at_no_oftener_at_work_than_at_rest() -> None:
    scene = await Scene().set_up()
    scene.loop = scene.new_loop(cycle_seconds=5.0, rest_seconds=1.0)
    await scene.steps(2)
    assert scene.loop.tick_seconds() == 5.0
