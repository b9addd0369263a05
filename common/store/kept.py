"""Resources of one kind, kept from pass to pass and brought up to date by what changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from common.errors import Conflict
from common.loop import in_turns
from common.resources import Resource, Workload
from common.store.port import Change, Store

PAGE = 500
"""So many changes are read at a time."""

R = TypeVar("R", bound=Resource)


class KeptList(Generic[R]):
    """What a list of the resources of a kind that are ``wanted`` would say, without reading all of them each
    time. What other processes write is seen as soon as ``Store.wait`` tells of it. Whoever is given the
    resources only reads them."""

    def __init__(self, store: Store, kind: type[R], wanted: Callable[[R], bool] = lambda _: True) -> None:
        self._store = store
        self._kind = kind
        self._wanted = wanted
        self._kept: dict[str, R] = {}
        self._revision: int | None = None

    async def now(self) -> list[R]:
        """The resources, by project and name."""
        if self._revision is not None:
            try:
                latest = await self._store.wait(self._revision, 0, [self._kind.__name__])
                await self._catch_up(self._revision, latest)
            except Conflict as error:
                if error.code != "gone":
                    raise
                self._revision = None
        if self._revision is None:
            latest = await self._store.revision()
            found = await self._store.list(self._kind)
            self._kept = {resource.metadata.uid: resource for resource in found if self._wanted(resource)}
            self._revision = latest
        return sorted(self._kept.values(), key=lambda resource: (resource.project or "", resource.name))

    async def copies(self) -> list[R]:
        """The same, to write to."""
        return [resource.copy_deep() async for resource in in_turns(await self.now())]

    async def _catch_up(self, since: int, latest: int) -> None:
        while since < latest:
            changes = await self._store.changes(since, kinds=[self._kind.__name__], limit=PAGE)
            for change in changes:
                self._apply(change)
            since = changes[-1].revision if len(changes) == PAGE else max(latest, since)
        self._revision = since

    def _apply(self, change: Change) -> None:
        resource = change.resource
        if not isinstance(resource, self._kind):
            return
        uid = resource.metadata.uid
        known = self._kept.get(uid)
        if change.type == "delete" or not self._wanted(resource):
            self._kept.pop(uid, None)
        elif known is None or known.metadata.resource_version < change.revision:
            self._kept[uid] = resource


def owned_workloads(store: Store, owner: str) -> KeptList[Workload]:
    """The Workloads that have an owner of kind ``owner``."""

    def is_owned(workload: Workload) -> bool:
        return workload.metadata.owner is not None and workload.metadata.owner.kind == owner

    return KeptList(store, Workload, is_owned)
