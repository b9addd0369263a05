"""Work whose key, project or tenant is paused."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from common.labels import KEY_LABEL
from common.pauses import KINDS, PAUSED, Pausable, is_paused
from common.resources import Project, Resource, Workload
from common.resources.workload import STOPPED_BY_HAND
from common.store.kept import KeptList
from common.store.port import Store
from scheduler.ports import Stop

_SCOPES: tuple[Pausable, ...] = ("key", "project", "tenant")
"""A paused model keeps nothing from running: it has no work of its own."""


class PauseStops:
    """Follows from the conditions alone, so a new process stops what the old one stopped."""

    def __init__(self, store: Store) -> None:
        self._paused = {scope: KeptList[Resource](store, KINDS[scope], is_paused) for scope in _SCOPES}
        self._projects = KeptList(store, Project)
        self._reasons: Mapping[tuple[Pausable, str], str] = {}

    async def look(self) -> Collection[str]:
        """See ``scheduler.ports.Stops``."""
        found = {
            (scope, one.name): one.status.condition(PAUSED).message
            for scope in _SCOPES
            for one in await self._paused[scope].now()
        }
        changed = found.items() ^ self._reasons.items()
        if not changed:
            return ()
        owners = {project.name: project.spec.tenant for project in await self._projects.now()}
        self._reasons = found
        tenants = set[str]()
        for (scope, name), _ in changed:
            # A key may have work in any project: it may be a platform-admin's, or gone by now.
            tenants |= (
                {name}
                if scope == "tenant"
                else {owners.get(name, "")}
                if scope == "project"
                else {*owners.values()}
            )
        return tenants

    def why(self, workload: Workload, tenant: str) -> Stop | None:
        """See ``scheduler.ports.Stops``."""
        if not self._reasons:
            return None
        key = workload.metadata.labels.get(KEY_LABEL, "")
        for scope, name in (("key", key), ("project", workload.project or ""), ("tenant", tenant)):
            reason = self._reasons.get((scope, name))  # type: ignore[arg-type]
            if reason is not None:
                return Stop(STOPPED_BY_HAND, f"the {scope} {name} is paused: {reason}")
        return None
