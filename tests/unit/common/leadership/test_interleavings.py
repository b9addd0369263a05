"""Whatever befalls would-be leaders: no write of an earlier leader comes after one of a later, and in the end
somebody leads."""

import asyncio
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from common.leadership.elector import LOOKS
from tests.fixtures.leases import LEASE_SECONDS, Process, Shared

PROCESSES = 3
What = Literal["act", "write", "stop", "wake", "lose answer", "time", "away", "back", "restart", "resign"]
EVENTS = st.tuples(
    st.sampled_from(["act"] * 6 + ["write"] * 4 + ["time"] * 4 + ["stop", "wake", "lose answer"])
    | st.sampled_from(["away", "back", "restart", "resign"]),
    st.integers(0, PROCESSES - 1),
    st.sampled_from([0.3, 1.0, 2.0, 5.0, 20.0]),
)


class World:
    """Processes with clocks that are hours apart and go at different rates."""

    def __init__(self) -> None:
        self.shared = Shared()
        self.runs = 0
        self.processes = [self.start(number) for number in range(PROCESSES)]
        self.gone: list[Process] = []
        self.led: dict[int, str] = {}

    def start(self, number: int) -> Process:
        self.runs += 1
        rate, ahead_ms = 0.9 + number / 10, number * 3_600_000
        return Process(self.shared, f"host-{number}:1", run=str(self.runs), rate=rate, ahead_ms=ahead_ms)

    async def happen(self, what: What, number: int, seconds: float) -> None:
        process = self.processes[number]
        if what == "act":
            await process.act()
        elif what == "write":
            process.write()
        elif what == "stop":
            process.line.hold()
        elif what == "wake":
            process.line.let_go()
        elif what == "lose answer":
            process.line.loses_answer = True
        elif what == "time":
            for one in self.processes:
                one.advance(seconds)
        elif what == "restart":
            self.gone.append(process)  # what it has sent may still arrive
            self.processes[number] = self.start(number)
        elif what == "resign" and process.step is None:
            if process.line._free.is_set():
                await process.elector.resign()
        else:
            self.shared.away = what == "away"
        self.check()

    def check(self) -> None:
        for process in [*self.processes, *self.gone]:
            if process.fence.epoch:
                holder = self.led.setdefault(process.fence.epoch, process.me.holder)
                assert holder == process.me.holder, "one epoch for two"
        epochs = [epoch for epoch, _ in self.shared.written]
        assert epochs == sorted(epochs), "an earlier leader wrote after a later one"
        assert len(set(self.shared.written)) == len(set(epochs)), "two wrote under one epoch"

    async def settle(self) -> None:
        """All faults are over: processes that live look on, for the time of a lease and some looks."""
        self.shared.away = False
        for process in self.gone:
            await process.end()
        for number, process in enumerate(self.processes):
            process.line.let_go()
            await process.act()
            if process.elector.lost.is_set():
                self.processes[number] = self.start(number)
        pause = LEASE_SECONDS / LOOKS
        for _ in range(int(1.5 * LEASE_SECONDS / pause)):
            for process in self.processes:
                process.advance(pause)
                await process.act()
        self.check()

    async def end(self) -> None:
        for process in self.processes:
            await process.end()


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, max_size=80))
def test_one_leads_whatever_happens(events: list[tuple[What, int, float]]) -> None:
    async def play() -> None:
        world = World()
        for event in events:
            await world.happen(*event)
        await world.settle()
        leading = [process for process in world.processes if process.write()]
        assert len(leading) == 1, "nobody leads" if not leading else "two lead"
        await world.end()

    asyncio.run(play())
