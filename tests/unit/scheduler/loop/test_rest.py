"""How soon the loop looks at all nodes again: often while something is under way, seldom while all rests."""

import asyncio

from common.resources import Workload
from scheduler.loop import SPANS_SECONDS
from tests.unit.scheduler.loop_scene import Scene

SOON_SECONDS, LATE_SECONDS = 0.5, 10.0


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
