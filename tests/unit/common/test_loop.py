"""Loops wake up for changes, survive bad passes, tell how their passes go, and stop when told."""

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import REGISTRY

from common.clock import VirtualClock
from common.errors import Conflict, Unavailable
from common.loop import (
    FAILED_IN_ROW,
    GAP_WINDOW_SECONDS,
    HUNG_SECONDS,
    LoopHealth,
    in_turns,
    run_every,
    run_passes,
)
from common.resources import Metadata, Project, Tenant
from common.resources.people import ProjectSpec
from common.store.memory import MemoryStore


async def _run(
    passes: Sequence[BaseException | None],
    store: MemoryStore,
    tick_seconds: float,
    health: LoopHealth | None = None,
) -> int:
    """Run a loop whose passes end as given; it is stopped in the last one. Returns how many there were."""
    stop, made = asyncio.Event(), 0

    async def step() -> None:
        nonlocal made
        made += 1
        if made == len(passes):
            stop.set()
        outcome = passes[made - 1]
        if outcome is not None:
            raise outcome

    async with asyncio.timeout(5):
        await run_passes("test", step, store, stop, tick_seconds, health)
    return made


async def test_bad_passes_do_not_end_the_loop() -> None:
    passes = [ValueError("bug"), Conflict("changed"), None, None]
    assert await _run(passes, MemoryStore(), 0.001) == 4


async def test_a_change_in_the_store_wakes_the_loop() -> None:
    store = MemoryStore()

    async def change() -> None:
        await asyncio.sleep(0)
        await store.apply(Tenant(metadata=Metadata(name="acme")))

    changing = asyncio.create_task(change())
    assert await _run([None, None], store, 1000.0) == 2
    await changing


async def test_a_change_of_other_kinds_wakes_no_loop_that_names_its_own() -> None:
    store, stop, passes, told = MemoryStore(), asyncio.Event(), 0, asyncio.Event()

    async def step() -> None:
        nonlocal passes
        passes += 1
        told.set()

    looping = asyncio.create_task(run_passes("kinds", step, store, stop, 1000.0, kinds=["Project"]))
    async with asyncio.timeout(5):
        await told.wait()
        told.clear()
        await store.apply(Tenant(metadata=Metadata(name="acme")))
        for _ in range(10):
            await asyncio.sleep(0)
        assert passes == 1
        await store.apply(Project(metadata=Metadata(name="web"), spec=ProjectSpec(tenant="acme")))
        await told.wait()
        stop.set()
        await looping
    assert passes == 2


class Away(MemoryStore):
    """A store that does not answer for the first questions."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.asked, self._times = 0, times

    async def revision(self) -> int:
        self.asked += 1
        if self.asked <= self._times:
            raise Unavailable("the database is away")
        return await super().revision()

    async def wait(self, since: int, timeout_seconds: float, kinds: Sequence[str] = ()) -> int:
        raise Unavailable("the database is away")


async def test_a_store_that_is_away_ends_no_loop_and_is_not_asked_without_a_pause() -> None:
    store, health = Away(times=4), LoopHealth("away", VirtualClock())
    began = asyncio.get_running_loop().time()
    assert await _run([None, None], store, 0.02, health) == 2
    assert asyncio.get_running_loop().time() - began >= 0.05
    assert store.asked < 10
    assert health.trouble == ""


async def test_a_loop_whose_passes_fail_says_so_and_says_when_it_is_well_again() -> None:
    health = LoopHealth("failing", VirtualClock())
    bad = [ValueError("of tenant acme")] * FAILED_IN_ROW
    await _run([*bad[:-1], None], MemoryStore(), 0.001, health)
    assert health.trouble == ""
    await _run(bad, MemoryStore(), 0.001, health)
    assert health.trouble.startswith(f"the last {FAILED_IN_ROW} passes failed: ValueError in tests/unit/")
    assert "acme" not in health.trouble
    failed = REGISTRY.get_sample_value("computility_loop_failed_passes_total", {"loop": "failing"})
    assert failed == 2 * FAILED_IN_ROW - 1
    await _run([None], MemoryStore(), 0.001, health)
    assert health.trouble == ""


@pytest.mark.parametrize("error", [None, Conflict("changed")], ids=["hangs", "meets others for ever"])
def test_a_loop_that_ends_no_pass_says_so(error: Conflict | None) -> None:
    clock = VirtualClock()
    health = LoopHealth("hanging", clock)
    health.note(None)
    clock.advance(HUNG_SECONDS - 1)
    assert health.trouble == ""
    if error is not None:
        health.note(error)
    clock.advance(1)
    assert health.trouble.startswith("no pass has ended well for 60 s")
    since = REGISTRY.get_sample_value("computility_loop_seconds_since_good_pass", {"loop": "hanging"})
    assert since == HUNG_SECONDS


async def test_a_loop_by_the_clock_survives_bad_passes_too() -> None:
    stop, made, health = asyncio.Event(), 0, LoopHealth("regular", VirtualClock())

    async def step() -> None:
        nonlocal made
        made += 1
        if made == 3:
            stop.set()
        raise ValueError("bug")

    async with asyncio.timeout(5):
        await run_every(step, stop, 0.001, health)
    assert health.failed_passes == 3


def test_the_longest_gap_between_passes_is_told_for_a_while() -> None:
    clock = VirtualClock()
    health = LoopHealth("gaps", clock)
    for seconds in (0.5, 7, 0.5, 1):
        clock.advance(seconds)
        health.note(None)
    assert health.longest_gap_seconds == 7
    clock.advance(2 * GAP_WINDOW_SECONDS)
    health.note(None)
    for _ in range(2 * round(GAP_WINDOW_SECONDS)):
        clock.advance(1)
        health.note(None)
    assert health.longest_gap_seconds == 1
    clock.advance(3)
    assert health.longest_gap_seconds == 3, "a pass that goes on counts"
    told = REGISTRY.get_sample_value("computility_loop_longest_gap_seconds", {"loop": "gaps"})
    assert told == 3


async def test_a_loop_that_rests_leaves_half_of_the_time_to_others() -> None:
    store, stop, made = MemoryStore(), asyncio.Event(), 0
    clock = asyncio.get_running_loop().time

    async def step() -> None:
        nonlocal made
        made += 1
        await store.apply(Tenant(metadata=Metadata(name="acme", labels={"pass": str(made)})))
        await asyncio.sleep(0.02)
        if made == 5:
            stop.set()

    began = clock()
    async with asyncio.timeout(5):
        await run_passes("rests", step, store, stop, 1000.0, LoopHealth("rests"), rests=True)
    assert made == 5
    assert clock() - began >= 5 * 0.02 + 4 * 0.02


async def test_a_long_loop_lets_others_go_on() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    seen = [item async for item in in_turns(range(100), turn_seconds=0.0)]
    beside.cancel()
    assert seen == list(range(100))
    assert turns >= 99


async def test_a_short_loop_is_not_interrupted() -> None:
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    assert [item async for item in in_turns(range(100), turn_seconds=1e9)] == list(range(100))
    assert turns == []
