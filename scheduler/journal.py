"""What the scheduler writes down: statuses of workloads, guarded by their versions, and events about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common.clock import Clock
from common.errors import Conflict, NotFound, Unavailable
from common.guard import Fault, Guard, is_everybodys
from common.ids import derived_id
from common.resources import Resource, Workload
from common.resources.workload import WorkloadStatus
from common.store.port import Event, StatusWrite, Store
from common.telemetry import get_logger
from scheduler.core.lifecycle.lifecycle import Note
from scheduler.translate.past_runs import facts_of
from scheduler.translate.views import World

_log = get_logger(__name__)


@dataclass
class _Staged:
    """A workload as it was read, as it is to be, and the events that tell of it."""

    before: Workload
    after: Workload
    events: list[Event] = field(default_factory=list)


class Journal:
    """The only writer of Workload statuses. What is written or noted stands in the world at once, and in the
    store, in one transaction, with the next ``flush``."""

    def __init__(self, store: Store, clock: Clock, items: Guard | None = None) -> None:
        self._store = store
        self._clock = clock
        self._items = items or Guard("journal", clock)
        self._last_event_ms = 0
        self._staged: dict[str, _Staged] = {}
        self._events: list[Event] = []

    def now_ms(self) -> int:
        """The time that it writes down."""
        return self._clock.now_ms()

    def write(self, workload: Workload, status: WorkloadStatus, world: World) -> None:
        """Write a status if the workload is still as it was read. Another writer wins; the next pass sees
        why."""
        if status == workload.status:
            return
        uid, changed = workload.metadata.uid, workload.model_copy(update={"status": status})
        staged = self._staged.get(uid)
        if staged is None:
            self._staged[uid] = _Staged(workload, changed)
        else:
            staged.after = changed
        world.workloads[uid] = changed

    def note(self, workload: Workload, note: Note, data: Mapping[str, object] | None = None) -> None:
        """An event about a workload as it is now; that of a run that ended well says how long it took. It is
        recorded with the status that is about to be written, if there is one, or not at all."""
        now = self._clock.now_ms()
        identity = (workload.metadata.resource_version, now, note.message)
        event = self._event(workload, note, data or facts_of(workload, note, now), identity)
        staged = self._staged.get(workload.metadata.uid)
        (self._events if staged is None else staged.events).append(event)

    def note_once(self, workload: Workload, note: Note, *identity: str | int) -> None:
        """An event that is recorded once, however often it is noted with this identity."""
        self._events.append(self._event(workload, note, {}, identity))

    def _event(
        self, workload: Workload, note: Note, data: Mapping[str, object], identity: Iterable[str | int]
    ) -> Event:
        self._last_event_ms = max(self._clock.now_ms(), self._last_event_ms + 1)
        return Event(
            id=derived_id("evt", workload.metadata.uid, note.reason, *identity),
            time_ms=self._last_event_ms,  # two of one millisecond keep their order
            level=note.level,
            reason=note.reason,
            message=note.message,
            kind="Workload",
            name=workload.name,
            project=workload.project,
            data=data,
        )

    def drop(self) -> None:
        """Forget what is not written: the pass failed."""
        self._staged.clear()
        self._events.clear()

    async def flush(self, world: World) -> Sequence[tuple[Workload, Fault]]:
        """Write all of it down. Of what is refused the world is as it was before; returns what could not be
        written, but for what has changed or gone meanwhile. Raises ``Unavailable`` where the database is
        away."""
        staged, events = self._take(world), self._events
        self._events = []
        writes = [StatusWrite(one.after, tuple(one.events)) for one in staged]
        if events:
            writes.append(StatusWrite(None, tuple(events)))
        if not writes:
            return ()
        faults: list[tuple[Workload, Fault]] = []
        results = await write_all(self._store, writes)
        for one, result in zip(staged, results, strict=False):
            fault = self._settle(one, result, world)
            if fault is not None:
                faults.append((one.before, fault))
        for told, result in zip(writes, results, strict=True):
            if not isinstance(result, Exception):
                _tell(told.events)
        return faults

    def _take(self, world: World) -> list[_Staged]:
        """What is to be written now; what could not be written lately waits."""
        staged, self._staged = self._staged, {}
        due = []
        for uid, one in staged.items():
            if self._items.may_try(("write", uid), one.before.metadata.generation):
                due.append(one)
            else:
                world.workloads[uid] = one.before
        return due

    def _settle(self, one: _Staged, result: Resource | Exception | None, world: World) -> Fault | None:
        uid, generation = one.before.metadata.uid, one.before.metadata.generation
        if isinstance(result, Workload):
            world.workloads[uid] = result
            self._items.handled(("write", uid))
        elif isinstance(result, NotFound):
            world.workloads.pop(uid, None)
        else:
            world.workloads[uid] = one.before
            if isinstance(result, Exception) and not isinstance(result, Conflict):
                return self._items.failed("Workload", ("write", uid), generation, result)
            _log.debug("workload changed meanwhile", workload=one.before.key)
        return None


def _tell(events: Sequence[Event]) -> None:
    for event in events:
        _log.info(
            "workload", name=event.name, project=event.project, reason=event.reason, message=event.message
        )


async def write_all(store: Store, writes: Sequence[StatusWrite]) -> Sequence[Resource | Exception | None]:
    """Write many statuses: all at once, or, where one of them breaks that, one by one. Says of each how it
    went, see ``Store.set_statuses``. Raises ``Unavailable`` where the database is away."""
    try:
        return await store.set_statuses(writes)
    except Exception as error:
        if isinstance(error, Unavailable) or is_everybodys(error):
            raise
        _log.warning("statuses are written one by one", count=len(writes), error=type(error).__name__)
    return [await _write_one(store, write) for write in writes]


async def _write_one(store: Store, write: StatusWrite) -> Resource | Exception | None:
    try:
        return (await store.set_statuses([write]))[0]
    except Exception as error:
        if isinstance(error, Unavailable):
            raise
        return error
