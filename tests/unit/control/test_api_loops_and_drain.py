"""Loops are started again when they break; draining asks gangs once, meters them to the end and forgets
them.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from billing.core.events import UsageEvent
from billing.rejected import RejectedUsage
from billing.store.ledger import PostResult
from common.clock import VirtualClock
from common.errors import NotFound
from common.loop import LoopHealth
from common.resources.workload import Grant
from control.drain import Drain
from control.loops import Loops
from scheduler.ports import Billing, GangRecord, NodeObservation, RankRecord

START_MS = VirtualClock().now_ms()


class OneNode:
    """A node with one gang that ends ``passes`` looks after it was asked to, or never."""

    def __init__(self, clock: VirtualClock, passes: int | None) -> None:
        self.clock, self.passes = clock, passes
        grant = Grant(device="d", index=0, vendor="cpu", model="x")
        rank = RankRecord(0, "main", 0, "Running", "127.0.0.1", START_MS, grants=(grant,))
        billing = Billing("acme", "search", "w")
        self.gang: GangRecord | None = GangRecord("uid-1", 1, "", billing, (rank,))
        self.stops = 0
        self.dismissed_with: list[bool] = []

    async def nodes(self) -> Sequence[NodeObservation]:
        self.clock.advance(1)
        gang = self.gang
        if gang is not None and gang.stopping and gang.alive and self.passes is not None:
            self.passes -= 1
            if self.passes <= 0:
                ended = replace(gang.ranks[0], state="Exited", finished_ms=self.clock.now_ms())
                self.gang = replace(gang, ranks=(ended,))
        gangs = (self.gang,) if self.gang else ()
        return [NodeObservation("n1", "ray-1", "127.0.0.1", "Alive", gangs=gangs)]

    async def stop_gang(self, node: str, uid: str, attempt: int, grace_seconds: float) -> None:
        assert self.gang is not None
        self.stops += 1
        self.gang = replace(self.gang, stopping=True)

    async def forget_gang(self, node: str, uid: str, attempt: int) -> None:
        if self.gang is None:
            raise NotFound("no such gang")
        self.gang = None

    async def dismiss_agents(self) -> None:
        self.dismissed_with.append(self.gang is not None)

    async def mark_metered(self, *arguments: Any) -> None:
        return None


class Usage:
    def __init__(self) -> None:
        self.seconds = 0

    async def post(self, events: Sequence[UsageEvent]) -> PostResult:
        self.seconds += sum(event.quantities["device_seconds"] for event in events)
        return PostResult(len(events), 0)


def drain_of(fabric: OneNode, usage: Usage, clock: VirtualClock) -> Drain:
    stub: Any = fabric
    return Drain(Loops(), stub, usage, RejectedUsage(Path("unused")), clock, grace_seconds=5)


async def test_a_drained_gang_is_stopped_once_metered_to_its_end_and_forgotten() -> None:
    clock, usage = VirtualClock(), Usage()
    fabric = OneNode(clock, passes=1)
    assert await drain_of(fabric, usage, clock)(timeout_seconds=5) == []
    assert fabric.stops == 1
    assert fabric.gang is None
    assert usage.seconds == 2


@pytest.mark.parametrize(("passes", "gang_is_left"), [(1, False), (None, True)], ids=["drained", "stuck"])
async def test_agents_end_last_and_only_when_told_to(passes: int | None, gang_is_left: bool) -> None:
    clock = VirtualClock()
    fabric = OneNode(clock, passes)
    drain = drain_of(fabric, Usage(), clock)
    await drain(timeout_seconds=0 if gang_is_left else 5)
    assert fabric.dismissed_with == []
    await drain(timeout_seconds=0 if gang_is_left else 5, dismiss_agents=True)
    assert fabric.dismissed_with == [gang_is_left]


async def test_what_does_not_end_in_time_is_named() -> None:
    clock = VirtualClock()
    fabric = OneNode(clock, passes=None)
    assert await drain_of(fabric, Usage(), clock)(timeout_seconds=0) == ["uid-1"]


async def test_a_loop_that_broke_is_started_again() -> None:
    runs, again = 0, asyncio.Event()

    async def breaks_once(stop: asyncio.Event, health: LoopHealth) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("no good")
        again.set()
        await stop.wait()

    loops = Loops(first_backoff_seconds=0)
    loops.add("fragile", breaks_once)
    loops.start()
    await asyncio.wait_for(again.wait(), 5)
    state = loops.states["fragile"]
    assert (state.alive, state.restarts, state.trouble) == (True, 1, "")
    assert state.error.startswith("RuntimeError in tests/unit/control/")
    await loops.stop(1)
    assert not loops.all_well
