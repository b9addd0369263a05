"""Logs since a time, and with times, by the API and a fabric in memory."""

import pytest

from common.clock import rfc3339
from common.log_times import Mark
from common.resources import Workload
from common.resources.workload import RankPlacement
from tests.fixtures.fabric import FakeFabric
from tests.integration.control.conftest import World, document

pytestmark = pytest.mark.integration


async def printed(world: World) -> str:
    """A workload that printed a line a minute; returns its uid."""
    await world.apply(document("Workload", "w", "search"))
    workload = await world.context.store.get(Workload, "w", "search")
    workload.status.phase, workload.status.attempt = "Running", 1
    workload.status.ranks = [RankPlacement(role="main", replica=0, rank=0, node="a", state="Exited")]
    await world.context.store.set_status(workload)
    fabric, key = FakeFabric(world.clock, a=[]), (workload.metadata.uid, 1, 0)
    world.context.fabric = fabric
    now = world.clock.now_ms()
    fabric.logs[key] = b"first\nsecond\nthird\n"
    fabric.log_times[key] = (Mark(now - 120_000, 6), Mark(now - 60_000, 13), Mark(now, 19))
    return workload.metadata.uid


async def logs(world: World, query: str) -> str:
    answer = await world.request("search-member", "GET", f"/api/v1/workloads/w/logs?{query}")
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_only_what_was_printed_since_then(world: World) -> None:
    await printed(world)
    assert await logs(world, "since_seconds=90") == "second\nthird\n"
    assert await logs(world, "since_seconds=5") == "third\n"
    assert await logs(world, "since_seconds=0") == ""
    assert await logs(world, "since_seconds=100000") == "first\nsecond\nthird\n"
    assert await logs(world, "since_seconds=100000&tail_lines=1") == "third\n"
    assert await logs(world, "since_seconds=5&tail_lines=3") == "third\n"


async def test_each_line_has_its_time(world: World) -> None:
    await printed(world)
    now = world.clock.now_ms()
    times = [rfc3339(now - 120_000), rfc3339(now - 60_000), rfc3339(now)]
    lines = [f"{time} {word}" for time, word in zip(times, ("first", "second", "third"), strict=True)]
    assert (await logs(world, "timestamps=true")).splitlines() == lines
    assert (await logs(world, "timestamps=true&tail_lines=1")).splitlines() == lines[2:]
    assert (await logs(world, "timestamps=true&since_seconds=90")).splitlines() == lines[1:]


async def test_a_log_of_which_no_times_are_known_says_so(world: World) -> None:
    uid = await printed(world)
    fabric = world.context.fabric
    assert isinstance(fabric, FakeFabric)
    fabric.log_times.clear()
    assert fabric.logs[uid, 1, 0]
    for query in ("timestamps=true", "since_seconds=5"):
        answer = await world.request("search-member", "GET", f"/api/v1/workloads/w/logs?{query}")
        assert answer.status_code == 404
        assert "no times were kept of this log" in answer.json()["error"]["message"]
    assert await logs(world, "tail_lines=1") == "third\n"
