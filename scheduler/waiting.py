"""What a cycle decides about: workloads that wait for a place, and gangs that are to start beside others."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from common.resources import Workload
from common.resources.workload import STOPS, PendingReason
from common.settings import Settings
from scheduler.aside import SchedulerGuard
from scheduler.core.lifecycle.lifecycle import PLACED, Note
from scheduler.core.model.types import WorkloadView
from scheduler.decisions import wants_successor
from scheduler.journal import Journal
from scheduler.stops import StopBook
from scheduler.translate.kept_world import KeptWorld
from scheduler.translate.observed import Observed
from scheduler.translate.views import is_due, is_group, successor_view, workload_view


class Waiting:
    """Keeps the views of those who wait from pass to pass."""

    def __init__(
        self,
        world: KeptWorld,
        settings: Settings,
        journal: Journal,
        guard: SchedulerGuard,
        stops: StopBook,
    ) -> None:
        self._world = world
        self._stops = stops
        self._grace_seconds = settings.scheduler.stop_grace_seconds
        self._journal = journal
        self._guard = guard
        self._changed = world.reader()
        self._known: dict[str, WorkloadView] = {}
        self._beside: set[str] = set()

    def views(self, uids: Iterable[str], observed: Observed, now_ms: int) -> list[WorkloadView]:
        """All of them. ``uids``: who may have begun to want another gang beside its own. One that waited
        already when it was last looked at, and of which nothing has changed, still does."""
        beside, self._beside = self._beside, set()
        fresh = {*uids, *beside}
        for uid in fresh | self._changed.take_workloads():
            self._known.pop(uid, None)
        world, found, known, guard = self._world, list[WorkloadView](), self._known, self._guard
        for uid in dict.fromkeys((*world.standings.waiting, *sorted(fresh))):
            view, workload = known.get(uid), world.workloads.get(uid)
            if view is not None and workload is not None and guard.may_place(workload):
                found.append(view)
                continue
            if workload is not None and self._guard.may_place(workload):
                work = partial(self._look, workload, observed, now_ms, found)
                self._guard.step("look", workload, world, work)
        return found

    def _look(self, workload: Workload, observed: Observed, now_ms: int, found: list[WorkloadView]) -> None:
        world, uid = self._world, workload.metadata.uid
        if wants_successor(workload, world, now_ms):
            self._beside.add(uid)
            found.append(successor_view(workload, world, self._grace_seconds))
        elif is_due(workload, now_ms):
            obstacle = self._obstacle(workload, observed)
            if obstacle is not None:
                update = {"pending": [obstacle], "message": obstacle.message, "nominated": None}
                held_back = workload.status.model_copy(update=update, deep=True)
                self._journal.write(workload, held_back, world)
                if obstacle.code in STOPS and workload.status.pending != [obstacle]:
                    self._journal.note(workload, Note("Waiting", obstacle.message, "warning"))
                return
            view = self._known[uid] = workload_view(workload, world, self._grace_seconds)
            found.append(view)
        elif workload.status.phase in PLACED and workload.status.pending and not is_group(workload):
            settled = workload.status.model_copy(update={"pending": []}, deep=True)
            self._journal.write(workload, settled, world)

    def _obstacle(self, workload: Workload, observed: Observed) -> PendingReason | None:
        """What keeps a workload from being considered at all."""
        if workload.project not in self._world.projects:
            message = f"there is no project {workload.project}, so nobody could be charged; apply it"
            return PendingReason(code="ProjectUnknown", message=message)
        if observed.is_alive(workload.metadata.uid):
            return PendingReason(code="StillStopping", message="waits for its previous processes to end")
        stop = self._stops.why(workload)
        return PendingReason(code=stop.code, message=stop.message) if stop is not None else None
