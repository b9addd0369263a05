"""Runs that ended well, from the store's events: what is not stated about how long others run is told by
them."""

from __future__ import annotations

from collections.abc import Mapping

from common.resources import Project, Workload
from common.store.port import Event, Store
from scheduler.core.lifecycle.lifecycle import Note
from scheduler.core.model.runtimes import PastRun, RunHistory, devices_of, slowness
from scheduler.translate.placements import placement_of
from scheduler.translate.views import role_views

ENDED_WELL = "Succeeded"
"""The reason of the events that are read."""
PAGE = 5000
"""So many events are read at a time."""


def facts_of(workload: Workload, note: Note, now_ms: int) -> dict[str, object]:
    """What the event of a run that ended well, in one go, says about it; empty for all others. ``workload``:
    as it ran."""
    status = workload.status
    if note.reason != ENDED_WELL or status.admitted_ms is None or status.attempt != 1:
        return {}
    roles = role_views(workload.spec)
    seconds = (now_ms - status.admitted_ms) / 1000 / slowness(roles, placement_of(workload))
    return {"seconds": round(seconds, 3), "devices": devices_of(roles), "workloadKind": workload.spec.kind}


def run_of(event: Event) -> PastRun | None:
    """The run that an event tells of; None where it tells of none that ended well in one go."""
    data: Mapping[str, object] = event.data
    seconds, devices, kind = data.get("seconds"), data.get("devices"), data.get("workloadKind")
    if not isinstance(seconds, int | float) or not isinstance(devices, int | float):
        return None
    return PastRun(event.project or "", event.name, str(kind), float(devices), float(seconds))


class PastRuns:
    """Keeps what the store's events say of past runs; each event is read once while this process runs. The
    store keeps the latest events only, and so many sorts of runs are remembered (``MOST_SORTS``). Runs of a
    project that had the name of another before are not told to the next."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._history = RunHistory()
        self._last: Event | None = None
        self._owners: dict[str, str] = {}

    async def read(self) -> RunHistory:
        """All that is known now."""
        await self._see_owners()
        after = self._last.id if self._last else None
        while True:
            page = await self._store.events(kind="Workload", reason=ENDED_WELL, after=after, limit=PAGE)
            for event in page:
                self._take(event)
            if len(page) < PAGE:
                return self._history
            after = page[-1].id

    async def _see_owners(self) -> None:
        """Who has the names of projects now, by uid."""
        owners = {project.name: project.metadata.uid for project in await self._store.list(Project)}
        for name, uid in self._owners.items():
            if owners.get(name) != uid:
                self._history.forget(name)
        self._owners = owners

    def _take(self, event: Event) -> None:
        last = self._last
        if last is not None and (event.time_ms, event.id) <= (last.time_ms, last.id):
            return  # the store no longer knows the last one, and began at the oldest
        self._last = event
        run = run_of(event)
        if run is not None and event.owner.project == self._owners.get(run.project, ""):
            self._history.add(run)
