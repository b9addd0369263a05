"""What the scheduler writes down: statuses of workloads, guarded by their versions, and events about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from common.clock import Clock
from common.errors import Conflict, NotFound
from common.ids import derived_id
from common.resources import Workload
from common.resources.workload import WorkloadStatus
from common.store.port import Event, Store
from common.telemetry import get_logger
from scheduler.core.lifecycle.lifecycle import Note
from scheduler.translate.past_runs import facts_of
from scheduler.translate.views import World

_log = get_logger(__name__)


class Journal:
    """The only writer of Workload statuses."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._last_event_ms = 0

    def now_ms(self) -> int:
        """The time that it writes down."""
        return self._clock.now_ms()

    async def write(self, workload: Workload, status: WorkloadStatus, world: World) -> bool:
        """Write a status if the workload is still as it was read. Another writer wins; the next pass sees
        why."""
        uid = workload.metadata.uid
        if status == workload.status:
            return True
        changed = workload.model_copy(update={"status": status})
        try:
            world.workloads[uid] = await self._store.set_status(changed)
        except Conflict:
            _log.debug("workload changed meanwhile", workload=workload.key)
            return False
        except NotFound:
            world.workloads.pop(uid, None)
            return False
        return True

    async def note(self, workload: Workload, note: Note, data: Mapping[str, object] | None = None) -> None:
        """An event about a workload as it is now; that of a run that ended well says how long it took."""
        now = self._clock.now_ms()
        identity = (workload.metadata.resource_version, now, note.message)
        await self._record(workload, note, data or facts_of(workload, note, now), identity)

    async def note_once(self, workload: Workload, note: Note, *identity: str | int) -> None:
        """An event that is recorded once, however often it is noted with this identity."""
        await self._record(workload, note, {}, identity)

    async def _record(
        self, workload: Workload, note: Note, data: Mapping[str, object], identity: Iterable[str | int]
    ) -> None:
        self._last_event_ms = max(self._clock.now_ms(), self._last_event_ms + 1)
        event = Event(
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
        await self._store.record(event)
        _log.info(
            "workload", name=workload.name, project=workload.project, reason=note.reason, message=note.message
        )
