"""The loops that run beside the API: started again when one breaks, and shown by ``/readyz``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from common.clock import SYSTEM_CLOCK, Clock
from common.loop import LoopHealth, sort_of
from common.store.authorship import Author, authored
from common.telemetry import get_logger

FIRST_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 30.0

ALIVE = Gauge("computility_control_loop_alive", "Whether the loop runs", ("loop",))
RESTARTS = Counter("computility_control_loop_restarts", "Times that the loop was started again", ("loop",))
_log = get_logger("control.loops")

Run = Callable[[asyncio.Event, LoopHealth], Awaitable[None]]


@dataclass
class LoopState:
    """How one loop is. ``error`` says why it does not run, or why it had to be started again last; as anybody
    may read it, it tells the sort of error and where it was raised only."""

    name: str
    health: LoopHealth
    alive: bool = False
    restarts: int = 0
    error: str = ""

    @property
    def trouble(self) -> str:
        """What is wrong with it, in words; empty while nothing is."""
        return self.health.trouble if self.alive else f"does not run: {self.error or 'not started yet'}"


class Loops:
    """Runs loops until they are told to stop. A loop that raises or just ends is started again, later each
    time.
    """

    def __init__(
        self, first_backoff_seconds: float = FIRST_BACKOFF_SECONDS, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._clock = clock
        self._first_backoff_seconds = first_backoff_seconds
        self._runs: dict[str, Run] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self.states: dict[str, LoopState] = {}

    def add(self, name: str, run: Run) -> None:
        """Name a loop; ``run`` is given an event that is set when it has to end, and what it tells of its
        passes."""
        self._runs[name] = run
        self.states[name] = LoopState(name, LoopHealth(name, self._clock))

    def start(self) -> None:
        """Start all loops that were added."""
        self._tasks = [
            asyncio.create_task(self._supervise(name, run), name=name) for name, run in self._runs.items()
        ]

    async def stop(self, timeout_seconds: float) -> None:
        """Ask all loops to end; cancel those that have not ended in time."""
        self._stop.set()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=timeout_seconds)
        for task in late:
            _log.warning("loop did not end in time", loop=task.get_name())
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    @property
    def all_well(self) -> bool:
        """Whether every loop runs, and its passes end well."""
        return not any(state.trouble for state in self.states.values())

    async def _supervise(self, name: str, run: Run) -> None:
        backoff_seconds = self._first_backoff_seconds
        state = self.states[name]
        while not self._stop.is_set():
            self._set_alive(state, True)
            try:
                with authored(Author(name, "control")):
                    await run(self._stop, state.health)
                state.error = "ended by itself"
            except Exception as error:  # noqa: BLE001 - the loop's boundary: the other loops go on
                _log.exception("loop broke", loop=name)
                state.error = sort_of(error)
            finally:
                self._set_alive(state, False)
            if await self._stopped_within(backoff_seconds):
                return
            state.restarts += 1
            RESTARTS.labels(name).inc()
            backoff_seconds = min(backoff_seconds * 2, MAX_BACKOFF_SECONDS)

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True

    def _set_alive(self, state: LoopState, alive: bool) -> None:
        state.alive = alive
        ALIVE.labels(state.name).set(alive)
