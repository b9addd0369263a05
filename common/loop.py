"""The one way in which level-triggered loops run, and how their passes have gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from prometheus_client import Counter, Gauge

from common.clock import SYSTEM_CLOCK, Clock
from common.errors import ComputilityError, Conflict, mapping_of
from common.guard import place_of, trace_of
from common.store.port import Store
from common.telemetry import get_logger

FAILED_IN_ROW = 3
"""After so many passes that failed a loop is in trouble."""
HUNG_SECONDS = 60.0
"""The same when it has not ended a pass well for so long."""
LOG_AGAIN_SECONDS = 60.0
GAP_WINDOW_SECONDS = 30.0
"""The longest gap between passes is told for this time, and for as long again at most."""

FAILED_PASSES = Counter("computility_loop_failed_passes", "Passes of the loop that failed", ("loop",))
SINCE_GOOD_PASS = Gauge(
    "computility_loop_seconds_since_good_pass", "How long ago the loop's last good pass ended", ("loop",)
)
LONGEST_GAP = Gauge(
    "computility_loop_longest_gap_seconds",
    "Longest time between the ends of two good passes within the last half a minute to a minute",
    ("loop",),
)
TURN_SECONDS = 0.02
"""So long a loop over many things computes before it lets others go on."""
News = Callable[[float], Awaitable[object]]
"""Returns as soon as there is a reason for a pass, after so many seconds at the latest."""
T = TypeVar("T")
_log = get_logger(__name__)


async def in_turns(items: Iterable[T], turn_seconds: float = TURN_SECONDS) -> AsyncIterator[T]:
    """The items one after the other. Everything else that this process does gets a turn whenever they have
    taken ``turn_seconds``: a loop over all that there is does not keep the API from answering."""
    clock = asyncio.get_running_loop().time
    until = clock() + turn_seconds
    for item in items:
        yield item
        if clock() >= until:
            await asyncio.sleep(0)
            until = clock() + turn_seconds


class LoopHealth:
    """How the passes of one loop have gone. ``error`` says what the last failed one met: the sort of error
    and the place in the code, never its text, which may hold names of tenants or secrets."""

    def __init__(self, name: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self.name = name
        self._clock = clock
        self._good_seconds = clock.monotonic_seconds()
        self._logged: tuple[str, float] = ("", 0.0)
        self._window = 0
        self._gaps_seconds = (0.0, 0.0)
        self.failed_passes = 0
        self.error = ""
        SINCE_GOOD_PASS.labels(name).set_function(lambda: self.seconds_since_good_pass)
        LONGEST_GAP.labels(name).set_function(lambda: self.longest_gap_seconds)

    @property
    def seconds_since_good_pass(self) -> float:
        """Since the loop began where there was none yet."""
        return self._clock.monotonic_seconds() - self._good_seconds

    @property
    def longest_gap_seconds(self) -> float:
        """Between the ends of two good passes in this window and the one before, the pass that goes on now
        included."""
        self._turn_window()
        return max(*self._gaps_seconds, self.seconds_since_good_pass)

    @property
    def trouble(self) -> str:
        """What is wrong with its passes, in words; empty while nothing is."""
        if self.failed_passes >= FAILED_IN_ROW:
            return f"the last {self.failed_passes} passes failed: {self.error}"
        since = self.seconds_since_good_pass
        if since < HUNG_SECONDS:
            return ""
        return f"no pass has ended well for {since:.0f} s" + (f": {self.error}" if self.error else "")

    def note(self, error: Exception | None) -> None:
        """A pass has ended. One that met another writer is neither good nor bad: it is made again at once."""
        if error is None:
            self._turn_window()
            before, now = self._gaps_seconds
            self._gaps_seconds = (before, max(now, self.seconds_since_good_pass))
            self.failed_passes, self.error = 0, ""
            self._good_seconds = self._clock.monotonic_seconds()
            return
        self.error = sort_of(error)
        if isinstance(error, Conflict):
            _log.debug("pass met another writer", loop=self.name, error=error.message)
            return
        self.failed_passes += 1
        FAILED_PASSES.labels(self.name).inc()
        self._tell(error)

    def _turn_window(self) -> None:
        window = int(self._clock.monotonic_seconds() // GAP_WINDOW_SECONDS)
        if window != self._window:
            latest = self._gaps_seconds[1] if window == self._window + 1 else 0.0
            self._window, self._gaps_seconds = window, (latest, 0.0)

    def _tell(self, error: Exception) -> None:
        """Once, and once a minute while it goes on."""
        now, (known, told_seconds) = self._clock.monotonic_seconds(), self._logged
        if known == self.error and now - told_seconds < LOG_AGAIN_SECONDS:
            return
        self._logged = (self.error, now)
        _log.error("pass failed", loop=self.name, failed_passes=self.failed_passes, exception=trace_of(error))


def sort_of(error: BaseException) -> str:
    """An exception without its text: what it is and where it was raised."""
    code = f" ({error.code})" if isinstance(error, ComputilityError) else ""
    name = mapping_of(error).reason if isinstance(error, ComputilityError) else type(error).__name__
    place = place_of(error)
    return f"{name}{code} in {place}" if place else f"{name}{code}"


async def run_passes(
    name: str,
    step: Callable[[], Awaitable[None]],
    store: Store,
    stop: asyncio.Event,
    tick_seconds: float | Callable[[], float],
    health: LoopHealth | None = None,
    *,
    rests: bool = False,
    kinds: Sequence[str] = (),
    news: News | None = None,
) -> None:
    """Call ``step`` until ``stop`` is set: after each change in the store, of these ``kinds`` where some are
    named, when ``news`` returns, which is given how long to wait for some, and every ``tick_seconds``, which
    may be asked for after each pass.

    A pass that fails is made again after a tick or the next change; one that met another writer at once. A
    loop that ``rests`` waits after a pass for as long as that took, a tick at most: while changes come all
    the time it leaves half of the time to others.
    """
    health, clock = health or LoopHealth(name), asyncio.get_running_loop().time
    revision: int | None = None
    while not stop.is_set():
        began = clock()
        try:
            revision = await store.revision() if revision is None else revision
            await step()
            health.note(None)
        except Exception as error:  # noqa: BLE001 - the loop's boundary: one bad pass must not end it
            health.note(error)
            if not isinstance(error, Conflict):
                revision = await _revision(store)
        tick = tick_seconds() if callable(tick_seconds) else tick_seconds
        if rests and await _stopped_within(stop, min(clock() - began, tick)):
            return
        revision = await _wait_for_change(store, revision, stop, tick, kinds, news)


async def run_every(
    step: Callable[[], Awaitable[None]], stop: asyncio.Event, seconds: float, health: LoopHealth
) -> None:
    """Call ``step`` every so many seconds until ``stop`` is set."""
    while not stop.is_set():
        try:
            await step()
            health.note(None)
        except Exception as error:  # noqa: BLE001 - the loop's boundary: one bad pass must not end it
            health.note(error)
        await _stopped_within(stop, seconds)


async def _revision(store: Store) -> int | None:
    """The store's revision; None while it does not answer."""
    try:
        return await store.revision()
    except Exception:  # noqa: BLE001 - the pass has told of it
        return None


async def _wait_for_change(
    store: Store,
    revision: int | None,
    stop: asyncio.Event,
    tick_seconds: float,
    kinds: Sequence[str],
    news: News | None,
) -> int | None:
    """The revision that the store has now, as far as anybody has looked; None where it does not answer: it is
    asked again after a tick, not at once."""
    if revision is None:
        await _stopped_within(stop, tick_seconds)
        return None
    changed = asyncio.create_task(store.wait(revision, tick_seconds, kinds))
    others: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop.wait())]
    others += [asyncio.ensure_future(news(tick_seconds))] if news is not None else []
    try:
        await asyncio.wait({changed, *others}, return_when=asyncio.FIRST_COMPLETED)
        broke = changed.done() and changed.exception() is not None
        known = None if broke else revision
        now = changed.result() if changed.done() and not broke else known
    finally:
        for task in (changed, *others):
            task.cancel()
        await asyncio.gather(changed, *others, return_exceptions=True)
    if broke:
        await _stopped_within(stop, tick_seconds)
    return now


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when the first of them has ended; the others are given up."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
