"""How soon the loop looks at all nodes again: often while something is under way, seldom while all rests."""

from common.resources import Workload
from tests.unit.scheduler.loop_scene import Scene

SOON_SECONDS, LATE_SECONDS = 0.5, 2.0


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


async def test_a_pool_may_be_told_to_be_looked_at_no_oftener_at_work_than_at_rest() -> None:
    scene = await Scene().set_up()
    scene.loop = scene.new_loop(cycle_seconds=5.0, rest_seconds=1.0)
    await scene.steps(2)
    assert scene.loop.tick_seconds() == 5.0
