"""What keeps the trouble of one thing from all others: a loop sets aside the item that it cannot handle, says
why, and tries it again later."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from prometheus_client import Counter, Gauge

from common.clock import Clock
from common.errors import DATABASE_UNAVAILABLE, ComputilityError, Conflict, NotFound, mapping_of
from common.resources.meta import Resource, Status
from common.store.port import Store
from common.telemetry import get_logger

HANDLED = "Handled"
"""The condition of a resource that says whether its controllers can do with it what they have to."""
FIRST_PAUSE_SECONDS = 1.0
"""After the second failure; the first is followed by another try in the next pass."""
LONGEST_PAUSE_SECONDS = 300.0
MEETINGS_UNTIL_FAULT = 8
"""An item that has changed or is missing whenever it is looked at is no coincidence after so many tries."""
MOST_MEETINGS = 10_000
"""So many such items are counted; then counting begins anew."""
LONGEST_MESSAGE = 300
LONGEST_TRACE = 8000
MOST_FAULTS = 256
"""So many distinct faults are remembered as logged."""

SET_ASIDE = Counter("computility_items_set_aside", "Items that a loop could not handle", ("loop", "kind"))
ASIDE = Gauge("computility_items_aside", "Items that are set aside now", ("loop",))
_ROOT = Path(__file__).resolve().parents[1]
_log = get_logger(__name__)


@dataclass(frozen=True)
class Fault:
    """Why an item could not be handled: ``reason`` for a condition, ``message`` for people."""

    reason: str
    message: str


@dataclass
class _Aside:
    """An item that is set aside. It is tried again after its pause, or as soon as its version is another."""

    fault: Fault
    version: int
    tries: int = 0
    failed_seconds: float = 0.0
    pause_seconds: float = 0.0


class Guard:
    """Remembers what one loop has set aside. Keys name items; the kind of an item is the first part of its
    key."""

    def __init__(self, loop: str, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._asides: dict[Hashable, _Aside] = {}
        self._met: dict[Hashable, int] = {}
        self._logged: set[str] = set()

    def may_try(
        self, key: Hashable, version: int = 0, longest_seconds: float = LONGEST_PAUSE_SECONDS
    ) -> bool:
        """Whether the item is not set aside, or is to be tried again now: after ``longest_seconds`` at the
        latest."""
        aside = self._asides.get(key)
        if aside is None or aside.version != version:
            return True
        paused_seconds = self._clock.monotonic_seconds() - aside.failed_seconds
        return paused_seconds >= min(aside.pause_seconds, longest_seconds)

    def fault_of(self, key: Hashable) -> Fault | None:
        """Why the item is set aside; None where it is not."""
        aside = self._asides.get(key)
        return aside.fault if aside else None

    def all_aside(self) -> Iterable[Hashable]:
        """The keys of all that is set aside."""
        return self._asides.keys()

    def tries_of(self, key: Hashable) -> int:
        """How often in a row the item could not be handled."""
        aside = self._asides.get(key)
        return aside.tries if aside else 0

    def item(self, kind: str, key: Hashable, version: int = 0) -> Attempt:
        """A ``with`` block in which the item is handled. What it raises ends there, but for a database that
        is away: that is no trouble of one item."""
        return Attempt(self, kind, key, version)

    def handled(self, key: Hashable) -> None:
        """The item is in order."""
        if self._met:
            self._met.pop(key, None)
        if self._asides and self._asides.pop(key, None) is not None:
            ASIDE.labels(self._loop).set(len(self._asides))

    def failed(self, kind: str, key: Hashable, version: int, error: Exception) -> Fault | None:
        """Set the item aside; None where it has only changed meanwhile."""
        if isinstance(error, Conflict | NotFound):
            self._met[key] = self._met.get(key, 0) + 1
            if self._met[key] < MEETINGS_UNTIL_FAULT:
                _log.debug("changed meanwhile", loop=self._loop, item=str(key), error=error.message)
                return None
        fault = fault_of(error)
        aside = self._asides.get(key)
        if aside is None:
            SET_ASIDE.labels(self._loop, kind).inc()
        if aside is None or aside.version != version:
            aside = self._asides[key] = _Aside(fault, version)
            ASIDE.labels(self._loop).set(len(self._asides))
        pause = FIRST_PAUSE_SECONDS * 2.0 ** min(aside.tries - 1, 16) if aside.tries else 0.0
        aside.pause_seconds = min(pause, LONGEST_PAUSE_SECONDS)
        aside.fault, aside.tries = fault, aside.tries + 1
        aside.failed_seconds = self._clock.monotonic_seconds()
        self._tell(kind, key, fault, error)
        return fault

    def _tell(self, kind: str, key: Hashable, fault: Fault, error: Exception) -> None:
        """With its traceback once for each distinct fault, with a line for each item that has it."""
        place = f"{kind} {type(error).__name__} {place_of(error)}"
        item = f"{place} {key}"
        if item in self._logged:
            return
        trace = not isinstance(error, ComputilityError) and place not in self._logged
        if len(self._logged) >= MOST_FAULTS:
            self._logged.clear()
        self._logged |= {place, item}
        _log.warning(
            "item set aside",
            loop=self._loop,
            kind=kind,
            item=str(key),
            reason=fault.reason,
            error=fault.message,
            **({"exception": trace_of(error)} if trace else {}),
        )

    def forget_gone(self) -> None:
        """What was due long ago and has not been tried is no longer there."""
        if not self._asides and not self._met:
            return
        long_ago = self._clock.monotonic_seconds() - 2 * LONGEST_PAUSE_SECONDS
        gone = [key for key, aside in self._asides.items() if aside.failed_seconds < long_ago]
        for key in gone:
            self.handled(key)
        if len(self._met) > MOST_MEETINGS:
            self._met.clear()


class Attempt:
    """One try at an item. Afterwards ``worked`` says whether it went well, ``fault`` why it is set aside;
    neither where it has only changed meanwhile."""

    __slots__ = ("_guard", "_key", "_kind", "_version", "fault", "worked")

    def __init__(self, guard: Guard, kind: str, key: Hashable, version: int) -> None:
        self._guard, self._kind, self._key, self._version = guard, kind, key, version
        self.fault: Fault | None = None
        self.worked = False

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self.worked = True
            self._guard.handled(self._key)
            return True
        if not isinstance(error, Exception) or is_everybodys(error):
            return False
        self.fault = self._guard.failed(self._kind, self._key, self._version, error)
        return True


class ResourceGuard:
    """A guard of resources: whoever looks at one that is set aside finds the reason in its condition
    ``Handled``."""

    def __init__(self, loop: str, store: Store, clock: Clock) -> None:
        self.items = Guard(loop, clock)
        self._store = store
        self._clock = clock

    async def handle(self, resource: Resource, work: Callable[[], Awaitable[Fault | None]]) -> Fault | None:
        """Do the work of one resource unless it is set aside. Work that was done but for a part returns why
        not that part. Returns why the resource is set aside; None where it is not."""
        key, generation = (resource.kind, resource.metadata.uid), resource.metadata.generation
        if not self.items.may_try(key, generation):
            return self.items.fault_of(key)
        known = resource.status.condition(HANDLED)
        part: Fault | None = None
        with self.items.item(resource.kind, key, generation) as tried:
            part = await work()
        fault = tried.fault or part
        if fault is not None or (tried.worked and known is not None and known.status == "False"):
            await tell_handled(self._store, resource, fault, self._clock)
        return fault


def is_everybodys(error: Exception) -> bool:
    """Whether it is not the trouble of one item: nothing can be read or written now."""
    return isinstance(error, ComputilityError) and error.code == DATABASE_UNAVAILABLE


def fault_of(error: Exception) -> Fault:
    """An exception as a condition says it."""
    if isinstance(error, ComputilityError):
        return Fault(mapping_of(error).reason, plain(error.message))
    return Fault("InternalError", plain(f"{type(error).__name__}: {error}"))


def plain(text: str) -> str:
    """One line that can be printed, and is not endless."""
    line = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    return line if len(line) <= LONGEST_MESSAGE else f"{line[: LONGEST_MESSAGE - 1]}…"


def place_of(error: BaseException) -> str:
    """The innermost line of ours that an exception came through, such as ``scheduler/nodes.py:121``."""
    ours = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_ROOT) and "site-packages" not in path.parts:
            ours = f"{path.relative_to(_ROOT)}:{line}"
    return ours


def trace_of(error: BaseException) -> str:
    """The traceback as text, without the values of variables, and its end where it is long."""
    return "".join(traceback.format_exception(error))[-LONGEST_TRACE:]


def mark_handled(status: Status, fault: Fault | None, now_ms: int, generation: int) -> bool:
    """Say in a status whether the resource could be handled; one that always could says nothing. Returns
    whether that is a change."""
    if fault is not None:
        return status.set_condition(
            HANDLED, False, fault.reason, fault.message, now_ms=now_ms, generation=generation
        )
    known = status.condition(HANDLED)
    if known is None or known.status == "True":
        return False
    return status.set_condition(HANDLED, True, HANDLED, now_ms=now_ms, generation=generation)


async def tell_handled(store: Store, resource: Resource, fault: Fault | None, clock: Clock) -> None:
    """Write the condition ``Handled`` of a resource, as it is stored now. Where that cannot be done the next
    try does it. Raises ``Unavailable`` where the database is away."""
    try:
        fresh = await store.find(type(resource), resource.name, resource.project)
        if fresh is None or fresh.metadata.uid != resource.metadata.uid:
            return
        if mark_handled(fresh.status, fault, clock.now_ms(), fresh.metadata.generation):
            await store.set_status(fresh)
    except Exception as error:
        if is_everybodys(error):
            raise
        _log.debug("condition not written", resource=resource.key, error=plain(str(error)))
