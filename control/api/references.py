"""What a resource may refer to, and what is still referred to: checked before each write and delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import cast

from common.errors import Conflict, Forbidden, InvalidInput, Problem
from common.resources import (
    KINDS,
    Adapter,
    ApiKey,
    Endpoint,
    FineTune,
    Model,
    Node,
    Price,
    Project,
    Queue,
    Resource,
    Tenant,
    Workload,
)
from common.resources.serving import EngineSpec
from common.sources import is_confined
from common.store.port import R, Store
from control.api.access import Caller
from control.api.prices import check_price_delete, check_prices, has_ended
from control.core.permissions import Owner, allows

MAX_NAMED_USERS = 5
FINISHED_JOBS = frozenset(("succeeded", "failed", "cancelled"))
FINISHED_PHASES = frozenset(("Succeeded", "Failed"))


class References:
    """The store as it will be after the resources of one request are written at ``now_ms``."""

    def __init__(self, store: Store, pending: Sequence[Resource], now_ms: int) -> None:
        self.now_ms = now_ms
        self._store = store
        self._pending: Mapping[tuple[type[Resource], str | None, str], Resource] = {
            (type(resource), resource.project, resource.name): resource for resource in pending
        }

    async def find(self, kind: type[R], name: str, project: str | None = None) -> R | None:
        pending = self._pending.get((kind, project, name))
        return cast(R, pending) if pending else await self._store.find(kind, name, project)

    async def stored(self, resource: R) -> R | None:
        """The resource as it is in the store now."""
        return await self._store.find(type(resource), resource.name, resource.project)

    async def shared_models(self, name: str) -> list[Model]:
        """The Models of that name that all tenants may use."""
        return [m for m in await self.list(Model) if m.name == name and m.spec.shared]

    async def list(self, kind: type[R]) -> list[R]:
        """All of a kind, with the pending ones in place of the stored ones."""
        found = {(r.project, r.name): r for r in await self._store.list(kind)}
        pending = [cast(R, r) for key, r in self._pending.items() if key[0] is kind]
        found.update({(r.project, r.name): r for r in pending})
        return list(found.values())


def missing(path: str, message: str) -> InvalidInput:
    """The error for a reference that leads nowhere."""
    return InvalidInput(f"{path}: {message}", param=path, problems=(Problem(path, message, "not_found"),))


Check = Callable[[Resource, Caller, References], Awaitable[None]]


async def check_write(resource: Resource, caller: Caller, references: References) -> None:
    """Raise unless what the resource refers to exists for the caller and may be used there."""
    check = WRITE_CHECKS.get(type(resource))
    if check is not None:
        await check(resource, caller, references)


async def _project(resource: Resource, caller: Caller, references: References) -> None:
    project = cast(Project, resource)
    tenant = project.spec.tenant
    if not caller.sees_owner(Owner(tenant=tenant)) or await references.find(Tenant, tenant) is None:
        raise missing("spec.tenant", f"there is no Tenant {tenant!r}")
    old = await references.stored(project)
    if old is not None and old.spec.tenant != tenant:
        if not caller.sees(old):
            raise Conflict(f"the name {project.name} is taken; choose another", param="metadata.name")
        raise InvalidInput("spec.tenant: a project cannot move to another tenant", param="spec.tenant")


async def _node(resource: Resource, caller: Caller, references: References) -> None:
    if await references.stored(resource) is None:
        raise missing("metadata.name", f"there is no Node {resource.name!r}; nodes join by themselves")


async def _price(resource: Resource, caller: Caller, references: References) -> None:
    price = cast(Price, resource)
    tenant = price.spec.tenant
    if tenant is not None and await references.find(Tenant, tenant) is None:
        raise missing("spec.tenant", f"there is no Tenant {tenant!r}")
    check_prices(price, await references.stored(price), references.now_ms)


async def _workload(resource: Resource, caller: Caller, references: References) -> None:
    await _queue(resource, cast(Workload, resource).spec.queue, references)


async def _model(resource: Resource, caller: Caller, references: References) -> None:
    model = cast(Model, resource)
    await _may_read(model, caller, references)
    if not model.spec.shared:
        await _not_withdrawn(model, caller, references)
        return
    await _may_share(resource, caller, references)
    for other in await references.shared_models(model.name):
        if other.project != model.project:
            raise Conflict(
                f"another project shares a Model {model.name} already; choose another name",
                param="metadata.name",
            )


async def _not_withdrawn(model: Model, caller: Caller, references: References) -> None:
    old = await references.stored(model)
    if old is not None and old.spec.shared:
        users = [e for e in await references.list(Endpoint) if _serves(e, old) and e.project != old.project]
        _refuse_if_used(f"{old.key} cannot be withdrawn from other projects", users, caller)


async def _endpoint(resource: Resource, caller: Caller, references: References) -> None:
    endpoint = cast(Endpoint, resource)
    await _may_set_flags(endpoint, caller, references)
    if endpoint.spec.shared:
        await _may_share(resource, caller, references)
    name = endpoint.spec.model
    own = await references.find(Model, name, endpoint.project)
    if own is None and not await references.shared_models(name):
        raise missing(
            "spec.model", f"there is no Model {name!r} in project {endpoint.project}, and no shared one"
        )
    await _queue(resource, endpoint.spec.queue, references)


async def _adapter(resource: Resource, caller: Caller, references: References) -> None:
    adapter = cast(Adapter, resource)
    project = adapter.spec.model_project or adapter.project
    if await references.find(Model, adapter.spec.model, project) is None:
        raise missing("spec.model", f"there is no Model {adapter.spec.model!r} in project {project}")


async def _may_share(resource: Resource, caller: Caller, references: References) -> None:
    """Sharing is the platform's decision; what is shared already may be changed by its project."""
    old = await references.stored(resource)
    if old is None or not old.spec.shared:
        _require(caller, "sharing", "spec.shared", "only a platform-admin shares with all tenants")


async def _may_set_flags(endpoint: Endpoint, caller: Caller, references: References) -> None:
    """Flags can make an engine run anything on its node; what is there already may stay."""
    old = await references.stored(endpoint)
    engine, known = endpoint.spec.engine, old.spec.engine if old is not None else EngineSpec()
    for name, changed in (("args", engine.args != known.args), ("env", engine.env != known.env)):
        if changed:
            path = f"spec.engine.{name}"
            _require(caller, "flags", path, "only a platform-admin sets or changes it; leave it as it was")


async def _may_read(model: Model, caller: Caller, references: References) -> None:
    """A path can lead to the files of others; one that is there already may stay."""
    old = await references.stored(model)
    if is_confined(model.spec.source) or (old is not None and old.spec.source == model.spec.source):
        return
    message = "must be a hub name or lie below $(HOME_DIR)/models; only a platform-admin names another path"
    _require(caller, "paths", "spec.source", message)


def _require(caller: Caller, thing: str, path: str, message: str) -> None:
    """Raise ``Forbidden`` naming the path unless the caller's role may write such a thing."""
    if not allows(caller.principal.role, thing, "write"):
        caller.denied = True
        raise Forbidden(f"{path}: {message}", param=path)


async def _queue(resource: Resource, queue: str, references: References) -> None:
    if await references.find(Queue, queue) is None:
        raise missing("spec.queue", f"there is no Queue {queue!r}")
    project = await references.find(Project, resource.project or "")
    if project is not None and project.spec.queues and queue not in project.spec.queues:
        allowed = ", ".join(project.spec.queues)
        raise InvalidInput(
            f"spec.queue: project {project.name} may not use the queue {queue}; it may use {allowed}",
            param="spec.queue",
        )


WRITE_CHECKS: Mapping[type[Resource], Check] = {
    Project: _project,
    Node: _node,
    Price: _price,
    Workload: _workload,
    Model: _model,
    Endpoint: _endpoint,
    Adapter: _adapter,
}


async def check_delete(resource: Resource, caller: Caller, store: Store, now_ms: int) -> None:
    """Raise ``Conflict`` naming what still uses the resource."""
    if isinstance(resource, FineTune) and resource.status.state not in FINISHED_JOBS:
        raise Conflict(f"{resource.key} is {resource.status.state}; cancel it first")
    if isinstance(resource, Price):
        check_price_delete(resource, now_ms)
    if isinstance(resource, Adapter):
        await _refuse_if_unfinished(resource, store)
    users_of = USERS.get(type(resource))
    if users_of is not None:
        users = await users_of(resource.name, resource, store, now_ms)
        _refuse_if_used(f"{resource.key} cannot be deleted", users, caller)


async def _refuse_if_unfinished(adapter: Adapter, store: Store) -> None:
    """A job that still publishes the adapter would only make it again."""
    job = await store.find(FineTune, adapter.spec.lineage.job, adapter.project)
    if job is not None and job.status.state not in FINISHED_JOBS and not job.spec.cancelled:
        raise Conflict(f"{adapter.key} is being made by {job.key}; cancel the job instead", code="in_use")


async def _of_tenant(name: str, tenant: Resource, store: Store, now_ms: int) -> list[Resource]:
    keys = keys_in_force(await store.list(ApiKey), now_ms)
    return [
        *(project for project in await store.list(Project) if project.spec.tenant == name),
        *(p for p in await store.list(Price) if p.spec.tenant == name and not has_ended(p, now_ms)),
        *(key for key in keys if key.spec.tenant == name),
    ]


async def _of_project(name: str, project: Resource, store: Store, now_ms: int) -> list[Resource]:
    users: list[Resource] = []
    for kind in KINDS.values():
        if kind.SCOPE == "project":
            users += await store.list(kind, project=name)
    keys = keys_in_force(await store.list(ApiKey), now_ms)
    return [*users, *(key for key in keys if key.spec.project == name)]


async def _of_queue(name: str, queue: Resource, store: Store, now_ms: int) -> list[Resource]:
    jobs = [j for j in await store.list(FineTune) if j.status.state not in FINISHED_JOBS]
    workloads = [w for w in await store.list(Workload) if w.status.phase not in FINISHED_PHASES]
    waiting = (*await store.list(Endpoint), *jobs, *workloads)
    return [
        *(project for project in await store.list(Project) if name in project.spec.queues),
        *(user for user in waiting if user.spec.queue == name),
    ]


async def _of_model(name: str, model: Resource, store: Store, now_ms: int) -> list[Resource]:
    return [
        *(endpoint for endpoint in await store.list(Endpoint) if _serves(endpoint, cast(Model, model))),
        *(adapter for adapter in await store.list(Adapter) if adapter.model_key == (model.project, name)),
    ]


USERS: Mapping[type[Resource], Callable[[str, Resource, Store, int], Awaitable[list[Resource]]]] = {
    Tenant: _of_tenant,
    Project: _of_project,
    Queue: _of_queue,
    Model: _of_model,
}
"""Kind -> what uses a resource of it, given its name, itself, the store and the time."""


def _serves(endpoint: Endpoint, model: Model) -> bool:
    """Whether the endpoint names the model; one of another project counts where the model is shared."""
    if endpoint.spec.model != model.name:
        return False
    return endpoint.project == model.project or model.spec.shared


def keys_in_force(keys: Sequence[ApiKey], now_ms: int) -> Iterator[ApiKey]:
    """The keys that are neither revoked nor expired."""
    for key in keys:
        if not key.spec.revoked and (key.spec.expires_ms is None or key.spec.expires_ms > now_ms):
            yield key


def _refuse_if_used(message: str, users: Sequence[Resource], caller: Caller) -> None:
    """Name the users that the caller may see; the others are only counted."""
    if not users:
        return
    named = [user.key for user in users if caller.sees(user)][:MAX_NAMED_USERS]
    others = len(users) - len(named)
    if others:
        named.append(f"{others} more" if named else f"{others} of other projects")
    raise Conflict(f"{message}: it is used by {', '.join(named)}", code="in_use")
