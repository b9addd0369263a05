"""Workloads that resources of one kind own, kept from pass to pass and brought up to date by what changed."""

from __future__ import annotations

from common.errors import Conflict
from common.resources import Workload
from common.store.port import Change, Store

PAGE = 500
"""So many changes are read at a time."""


class OwnedWorkloads:
    """What a list of all Workloads with an owner of kind ``owner`` would say, without reading all of them
    each time. Whoever is given them only reads them."""

    def __init__(self, store: Store, owner: str) -> None:
        self._store = store
        self._owner = owner
        self._kept: dict[str, Workload] = {}
        self._revision: int | None = None

    async def now(self) -> list[Workload]:
        """The workloads, by project and name."""
        latest = await self._store.revision()
        if self._revision is not None:
            try:
                await self._catch_up(self._revision, latest)
            except Conflict as error:
                if error.code != "gone":
                    raise
                self._revision = None
        if self._revision is None:
            workloads = await self._store.list(Workload)
            self._kept = {
                workload.metadata.uid: workload for workload in workloads if self._is_kept(workload)
            }
            self._revision = latest
        return sorted(self._kept.values(), key=lambda workload: (workload.project or "", workload.name))

    async def _catch_up(self, since: int, latest: int) -> None:
        while since < latest:
            changes = await self._store.changes(since, kinds=[Workload.__name__], limit=PAGE)
            for change in changes:
                self._apply(change)
            since = changes[-1].revision if len(changes) == PAGE else max(latest, since)
        self._revision = since

    def _apply(self, change: Change) -> None:
        workload = change.resource
        if not isinstance(workload, Workload):
            return
        uid, known = workload.metadata.uid, self._kept.get(workload.metadata.uid)
        if change.type == "delete" or not self._is_kept(workload):
            self._kept.pop(uid, None)
        elif known is None or known.metadata.resource_version < change.revision:
            self._kept[uid] = workload

    def _is_kept(self, workload: Workload) -> bool:
        owner = workload.metadata.owner
        return owner is not None and owner.kind == self._owner
