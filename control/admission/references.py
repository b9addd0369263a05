"""What a resource may refer to, and what is still referred to: checked before each write and delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import cast

from common.errors import Conflict, InvalidInput
from common.resources import (
    KINDS,
    Adapter,
    ApiKey,
    Batch,
    Budget,
    Endpoint,
    FineTune,
    Guardrail,
    Job,
    Model,
    Node,
    Price,
    Project,
    Queue,
    Resource,
    Route,
    Tenant,
    Workload,
)
from common.store.port import Store
from control.admission.access import Caller
from control.admission.budgets import check_budget, check_rights
from control.admission.guardrails import check_guardrail, check_guardrail_rights
from control.admission.jobs import check_job
from control.admission.lookup import References, missing
from control.admission.one_door import check_route
from control.admission.prices import (
    begin_ms,
    check_beginning,
    check_price_delete,
    check_prices,
    has_ended,
)
from control.admission.queues import check_classes
from control.admission.rights import check_endpoint, check_model, check_withdrawal, settle_project
from control.core.permissions import Owner

MAX_NAMED_USERS = 5
FINISHED_JOBS = frozenset(("succeeded", "failed", "cancelled"))
FINISHED_PHASES = frozenset(("Succeeded", "Failed"))


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
    await settle_project(project, caller, references)


async def _node(resource: Resource, caller: Caller, references: References) -> None:
    if await references.stored(resource) is None:
        raise missing("metadata.name", f"there is no Node {resource.name!r}; nodes join by themselves")


async def _check_queue(resource: Resource, caller: Caller, references: References) -> None:
    """Raise where the queue would lie in itself, by however many parents, or says nothing of the pool's
    devices."""
    queue = cast(Queue, resource)
    seen, above = [queue.name], queue.spec.parent
    while above is not None and above not in seen:
        seen.append(above)
        parent = await references.find(Queue, above)
        above = parent.spec.parent if parent is not None else None
    if above == queue.name:
        way = " in ".join((*seen, above))
        raise InvalidInput(f"spec.parent: a queue cannot lie in itself ({way})", param="spec.parent")
    if queue.spec.quotas or queue.spec.budgets:
        check_classes(queue, await references.stored(queue), await references.list(Node))


async def _price(resource: Resource, caller: Caller, references: References) -> None:
    price = cast(Price, resource)
    tenant = price.spec.tenant
    if tenant is not None and await references.find(Tenant, tenant) is None:
        raise missing("spec.tenant", f"there is no Tenant {tenant!r}")
    old, begins = await references.stored(price), price.spec.effective_from
    check_prices(price, old, references.now_ms)
    if begins is not None and (old is None or begin_ms(old) != begin_ms(price)):
        check_beginning(price, await references.list(Price))


async def _budget(resource: Resource, caller: Caller, references: References) -> None:
    await check_budget(cast(Budget, resource), caller, references)


async def _guardrail(resource: Resource, caller: Caller, references: References) -> None:
    await check_guardrail(cast(Guardrail, resource), caller, references)


async def _route(resource: Resource, caller: Caller, references: References) -> None:
    await check_route(cast(Route, resource), caller, references)


async def _workload(resource: Resource, caller: Caller, references: References) -> None:
    await _queue(resource, cast(Workload, resource).spec.queue, references)


async def _model(resource: Resource, caller: Caller, references: References) -> None:
    model = cast(Model, resource)
    await check_model(model, caller, references)
    if not model.spec.shared:
        await _not_withdrawn(model, caller, references)
        return
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
    await check_endpoint(endpoint, caller, references)
    await _refuse_namesake(endpoint, references)
    model = await _model_of(endpoint, endpoint.spec.model, "spec.model", references)
    if endpoint.spec.canary is not None:
        path = "spec.canary.model"
        canary = await _model_of(endpoint, endpoint.spec.canary.model, path, references)
        if set(canary.spec.tasks) != set(model.spec.tasks):
            does, should = ", ".join(canary.spec.tasks), ", ".join(model.spec.tasks)
            message = (
                f"{canary.name} serves {does}, but {model.name} serves {should}; they have to be the same"
            )
            raise InvalidInput(f"{path}: {message}", param=path)
    await _check_shadow(endpoint, references)
    await _queue(resource, endpoint.spec.queue, references)


async def _check_shadow(endpoint: Endpoint, references: References) -> None:
    """Copies go to another Endpoint of the project. A circle does no harm: a copy is never copied."""
    shadow, path = endpoint.spec.shadow, "spec.shadow.endpoint"
    if shadow is None:
        return
    if shadow.endpoint == endpoint.name:
        raise InvalidInput(f"{path}: is the Endpoint itself; name another one", param=path)
    if await references.find(Endpoint, shadow.endpoint, endpoint.project) is None:
        raise missing(path, f"there is no Endpoint {shadow.endpoint!r} in project {endpoint.project}")


async def _model_of(endpoint: Endpoint, name: str, path: str, references: References) -> Model:
    """The Model of that name in the endpoint's project, else the shared one. Raises where there is none."""
    found = await references.model_of(endpoint, name)
    if found is None:
        raise missing(path, f"there is no Model {name!r} in project {endpoint.project}, and no shared one")
    return found


async def _refuse_namesake(endpoint: Endpoint, references: References) -> None:
    """What clients of all tenants call by a name must be one thing."""
    old = await references.stored(endpoint)
    known = old is not None and old.spec.shared and old.served_name == endpoint.served_name
    if known or not endpoint.spec.shared:
        return
    for other in await references.list(Endpoint):
        is_other = (other.project, other.name) != (endpoint.project, endpoint.name)
        if is_other and other.spec.shared and other.served_name == endpoint.served_name:
            message = f"{other.key} is shared as {endpoint.served_name} already; choose another name"
            raise Conflict(f"spec.servedName: {message}", param="spec.servedName")


async def _adapter(resource: Resource, caller: Caller, references: References) -> None:
    adapter = cast(Adapter, resource)
    project = adapter.spec.model_project or adapter.project
    if await references.find(Model, adapter.spec.model, project) is None:
        raise missing("spec.model", f"there is no Model {adapter.spec.model!r} in project {project}")


async def _job(resource: Resource, caller: Caller, references: References) -> None:
    job = cast(Job, resource)
    if await check_job(job, caller, references):
        await _queue(resource, job.spec.queue, references)


async def _queue(resource: Resource, queue: str, references: References) -> None:
    if await references.find(Queue, queue) is None:
        raise missing("spec.queue", f"there is no Queue {queue!r}")
    project = await references.find(Project, resource.project or "")
    allowed_queues = await references.queues_of(project) if project is not None else ()
    if project is not None and allowed_queues and queue not in allowed_queues:
        allowed = ", ".join(allowed_queues)
        raise InvalidInput(
            f"spec.queue: project {project.name} may not use the queue {queue}; it may use {allowed}",
            param="spec.queue",
        )


WRITE_CHECKS: Mapping[type[Resource], Check] = {
    Project: _project,
    Node: _node,
    Queue: _check_queue,
    Price: _price,
    Budget: _budget,
    Guardrail: _guardrail,
    Workload: _workload,
    Model: _model,
    Endpoint: _endpoint,
    Adapter: _adapter,
    Route: _route,
    Job: _job,
}


async def check_delete(resource: Resource, caller: Caller, store: Store, now_ms: int) -> None:
    """Raise ``Conflict`` naming what still uses the resource."""
    if isinstance(resource, FineTune) and resource.status.state not in FINISHED_JOBS:
        raise Conflict(f"{resource.key} is {resource.status.state}; cancel it first")
    if isinstance(resource, Batch) and not resource.has_ended:
        raise Conflict(f"{resource.key} is {resource.status.state}; cancel it first")
    if isinstance(resource, Price):
        check_price_delete(resource, now_ms)
    if isinstance(resource, Budget):
        check_rights(resource, caller)
    if isinstance(resource, Guardrail):
        check_guardrail_rights(resource, caller)
    if isinstance(resource, Adapter):
        await _refuse_if_unfinished(resource, store)
    users_of = USERS.get(type(resource))
    if users_of is not None:
        users = await users_of(resource.name, resource, store, now_ms)
        _refuse_if_used(f"{resource.key} cannot be deleted", users, caller)
    await check_withdrawal(resource, caller, store)


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
        *(budget for budget in await store.list(Budget) if budget.spec.scope.tenant == name),
        *(one for one in await store.list(Guardrail) if one.spec.scope.tenant == name),
        *(key for key in keys if key.spec.tenant == name),
    ]


async def _of_project(name: str, project: Resource, store: Store, now_ms: int) -> list[Resource]:
    users: list[Resource] = []
    for kind in KINDS.values():
        if kind.SCOPE == "project":
            users += await store.list(kind, project=name)
    users += [budget for budget in await store.list(Budget) if budget.spec.scope.project == name]
    users += [one for one in await store.list(Guardrail) if one.spec.scope.project == name]
    keys = keys_in_force(await store.list(ApiKey), now_ms)
    return [*users, *(key for key in keys if key.spec.project == name)]


async def _of_queue(name: str, queue: Resource, store: Store, now_ms: int) -> list[Resource]:
    jobs = [j for j in await store.list(FineTune) if j.status.state not in FINISHED_JOBS]
    workloads = [w for w in await store.list(Workload) if w.status.phase not in FINISHED_PHASES]
    own = [job for job in await store.list(Job) if not job.has_ended]
    waiting = (*await store.list(Endpoint), *jobs, *own, *workloads)
    return [
        *(project for project in await store.list(Project) if name in project.spec.queues),
        *(tenant for tenant in await store.list(Tenant) if name in tenant.spec.queues),
        *(below for below in await store.list(Queue) if below.spec.parent == name),
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
    if model.name not in endpoint.spec.models:
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
