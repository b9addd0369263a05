"""The store as it will be after the resources of one request are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from common.errors import InvalidInput, Problem
from common.limits import find_limits, limits_of, queues_of
from common.resources import Endpoint, Model, Project, Resource, Tenant
from common.resources.people import ProjectLimits
from common.settings import Settings
from common.store.port import KindSize, R, Store


class References:
    """Finds what is pending before what is stored, at ``now_ms``.

    Of one request, made under the lock of writes: so each kind is read once, however many resources ask.
    """

    def __init__(self, store: Store, pending: Sequence[Resource], settings: Settings, now_ms: int) -> None:
        self.now_ms, self.settings = now_ms, settings
        self._store = store
        self._pending: Mapping[tuple[type[Resource], str | None, str], Resource] = {
            (type(resource), resource.project, resource.name): resource for resource in pending
        }
        self._listed: dict[type[Resource], Sequence[Resource]] = {}
        self._served: dict[tuple[str | None, str], list[str]] = {}

    async def find(self, kind: type[R], name: str, project: str | None = None) -> R | None:
        pending = self._pending.get((kind, project, name))
        return cast(R, pending) if pending else await self._store.find(kind, name, project)

    async def stored(self, resource: R) -> R | None:
        """The resource as it is in the store now."""
        return await self._store.find(type(resource), resource.name, resource.project)

    async def stored_projects(self, tenant: str) -> list[Project]:
        """The tenant's projects as they are in the store now."""
        return [p for p in await self._store.list(Project) if p.spec.tenant == tenant]

    async def shared_models(self, name: str) -> list[Model]:
        """The Models of that name that all tenants may use."""
        return [m for m in await self.list(Model) if m.name == name and m.spec.shared]

    async def model_of(self, endpoint: Endpoint, name: str) -> Model | None:
        """The Model of that name in the endpoint's project, else the shared one; None where there is none."""
        own = await self.find(Model, name, endpoint.project)
        return own or next(iter(await self.shared_models(name)), None)

    async def list(self, kind: type[R]) -> list[R]:
        """All of a kind, with the pending ones in place of the stored ones."""
        if kind not in self._listed:
            found: dict[tuple[str | None, str], Resource] = {
                (r.project, r.name): r for r in await self._store.list(kind)
            }
            found.update({(r.project, r.name): r for r in self._pending.values() if type(r) is kind})
            self._listed[kind] = tuple(found.values())
        return [cast(R, resource) for resource in self._listed[kind]]

    async def served(self) -> Mapping[tuple[str | None, str], Sequence[str]]:
        """The names of Endpoints by their project and what clients call them."""
        if not self._served:
            for endpoint in await self.list(Endpoint):
                self._served.setdefault((endpoint.project, endpoint.served_name), []).append(endpoint.name)
        return self._served

    async def sizes(self, project: str) -> Mapping[str, KindSize]:
        """What the project holds now, by kind."""
        return await self._store.sizes(project)

    async def limits_of(self, project: str) -> ProjectLimits:
        """The limits of the project, all set."""
        found = await self.find(Project, project)
        if found is None:
            return await find_limits(self._store, project, self.settings.limits)
        return limits_of(found, await self.find(Tenant, found.spec.tenant), self.settings.limits)

    async def queues_of(self, project: Project) -> Sequence[str]:
        """The queues that the project may use; empty = all."""
        return queues_of(project, await self.find(Tenant, project.spec.tenant))


def missing(path: str, message: str) -> InvalidInput:
    """The error for a reference that leads nowhere."""
    return InvalidInput(f"{path}: {message}", param=path, problems=(Problem(path, message, "not_found"),))
