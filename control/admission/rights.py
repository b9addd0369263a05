"""What only the platform decides about things that projects write: what is shared, what engines are started
with, where models lie, and how much a project may ask for.

Each is a thing of the table in ``control.core.permissions``. A change is judged against what is stored: what
a platform-admin set stays while others change the rest, and cannot be had by making the same thing anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic.alias_generators import to_camel

from common.errors import Conflict, Forbidden
from common.limits import (
    check_priority,
    check_room,
    inherited_limits,
    inherited_queues,
    inherited_rates,
    lifts_limits,
)
from common.resources import Endpoint, Job, Model, Project, Queue, Resource, Route, Tenant
from common.resources.people import ProjectLimits
from common.resources.serving import EndpointSpec
from common.sources import is_open_to
from common.store.port import Store
from control.admission.access import Caller
from control.admission.lookup import References
from control.core.permissions import allows

_NAMED = 5
"""Models of a key that an error names."""


def require(caller: Caller, thing: str, path: str, message: str) -> None:
    """Raise ``Forbidden`` naming the path unless the caller's role may write such a thing."""
    if not allows(caller.principal.role, thing, "write"):
        caller.denied = True
        raise Forbidden(f"{path}: {message}", param=path)


def _may(caller: Caller, thing: str) -> bool:
    return allows(caller.principal.role, thing, "write")


async def settle_project(project: Project, caller: Caller, references: References) -> None:
    """Queues and limits are the platform's: what others leave out, or repeat, stays as it is. A new project
    is no way around those of its tenant."""
    if _may(caller, "limits"):
        return
    old = await references.stored(project)
    if old is None:
        await _check_new_project(project, references)
        tenant = await references.find(Tenant, project.spec.tenant)
        others = await references.stored_projects(project.spec.tenant)
        stands = {
            "queues": inherited_queues(tenant, others),
            "limits": inherited_limits(tenant, others),
            "rate_limits": inherited_rates(others),
        }
    else:
        stands = {
            "queues": list(old.spec.queues),
            "limits": old.spec.limits.model_copy(),
            "rate_limits": old.spec.rate_limits.model_copy(),
        }
    for name, value in stands.items():
        given = getattr(project.spec, name)
        is_default = name not in project.spec.model_fields_set or (old is None and not _is_set(given))
        if not is_default and given != value:
            message = "written by platform-admins only; leave it out, or as it is"
            require(caller, "limits", f"spec.{to_camel(name)}", message)
        setattr(project.spec, name, value)


def _is_set(value: object) -> bool:
    return bool(value.to_dict() if hasattr(value, "to_dict") else value)


async def _check_new_project(project: Project, references: References) -> None:
    """Not more than the tenant may have, and never a name whose folder holds models of somebody else."""
    tenant = await references.find(Tenant, project.spec.tenant)
    stored = len(await references.stored_projects(project.spec.tenant))
    new = [p for p in await references.list(Project) if p.spec.tenant == project.spec.tenant]
    own = tenant.spec.max_projects if tenant is not None else None
    limit = references.settings.limits.max_projects if own is None else own
    check_room(f"tenant {project.spec.tenant}", "maxProjects", limit, stored, len(new) - stored)
    if (references.settings.home / "models" / project.name).exists():
        raise Conflict(f"the name {project.name} is taken; choose another", param="metadata.name")


async def check_model(model: Model, caller: Caller, references: References) -> None:
    """Where a Model lies, and all of a shared one, is the platform's; so is what flags were given for."""
    old = await references.stored(model)
    known = old.spec if old is not None else None
    if model.spec.shared != (known is not None and known.shared):
        require(caller, "sharing", "spec.shared", "only a platform-admin shares with all tenants, or ends it")
    moved = known is None or known.source != model.spec.source
    if known is not None and known.shared:
        if moved:
            require(caller, "sharing", "spec.source", "is shared, so only a platform-admin changes it")
        if known.tasks != model.spec.tasks:
            require(caller, "sharing", "spec.tasks", "is shared, so only a platform-admin changes it")
    if not moved:
        return
    refuse_limited_key(caller, "spec.source")
    if not is_open_to(model.project, model.spec.source):
        message = (
            f"must be a hub name or lie below $(HOME_DIR)/models/{model.project}; only a platform-admin "
            "names another path"
        )
        require(caller, "paths", "spec.source", message)
    if not _may(caller, "flags"):
        await _refuse_behind_flags(model, is_new=known is None, caller=caller, references=references)


async def _refuse_behind_flags(model: Model, *, is_new: bool, caller: Caller, references: References) -> None:
    """Flags were given for one Model: neither its files nor a namesake may take its place."""
    for endpoint in await references.list(Endpoint):
        is_served = endpoint.project == model.project and model.name in endpoint.spec.models
        if is_served and endpoint.has_flags:
            path = "metadata.name" if is_new else "spec.source"
            message = (
                f"{endpoint.key} serves {model.name} with spec.engine.args or env that a platform-admin "
                "set, so only a platform-admin changes what it is"
            )
            require(caller, "flags", path, message)


async def check_endpoint(endpoint: Endpoint, caller: Caller, references: References) -> None:
    """Flags, sharing, and what is asked for beyond the limits of the project."""
    old = await references.stored(endpoint)
    known = old.spec if old is not None else EndpointSpec(model=endpoint.spec.model)
    if old is None or (old.served_name, old.model_key) != (endpoint.served_name, endpoint.model_key):
        refuse_limited_key(caller, "spec.model")
    if set(endpoint.spec.models) - set(known.models):
        refuse_limited_key(caller, "spec.canary.model")
    _check_flags(endpoint.spec, known, caller)
    if endpoint.spec.shared != known.shared:
        require(caller, "sharing", "spec.shared", "only a platform-admin shares with all tenants, or ends it")
    if old is not None and old.spec.shared:
        _check_shared(endpoint, old, caller)
    if not _may(caller, "limits"):
        await _check_demands(endpoint, old, references)


def refuse_limited_key(caller: Caller, path: str) -> None:
    """A key for some models only does not say what their names lead to: it could ask any other by them."""
    models = caller.principal.models
    if models:
        caller.denied = True
        message = (
            f"the key {caller.principal.key} may use only {', '.join(models[:_NAMED])}"
            f"{' and others' if len(models) > _NAMED else ''}, so it does not decide which models are served "
            "by which name; that takes a key without `models`"
        )
        raise Forbidden(f"{path}: {message}", param=path)


def _check_flags(new: EndpointSpec, known: EndpointSpec, caller: Caller) -> None:
    """Flags can make an engine run anything on its node; what is there already may stay, for its Model."""
    for name in ("args", "env"):
        if getattr(new.engine, name) != getattr(known.engine, name):
            path = f"spec.engine.{name}"
            require(caller, "flags", path, "only a platform-admin sets or changes it; leave it as it was")
    for name in ("prefill", "decode", "canary"):
        if _role_args(new, name) != _role_args(known, name):
            path = f"spec.{name}.args"
            require(caller, "flags", path, "only a platform-admin sets or changes it; leave it as it was")
    has_flags = known.engine.args or known.engine.env or _role_args(known, "prefill", "decode", "canary")
    for path, model in (("spec.model", new.model), ("spec.canary.model", new.models[-1])):
        if has_flags and model not in known.models:
            message = (
                "arguments or env of its engines were set for another Model; only a platform-admin changes it"
            )
            require(caller, "flags", path, message)


def _role_args(spec: EndpointSpec, *names: str) -> list[str]:
    roles = (getattr(spec, name) for name in names)
    return [word for role in roles if role is not None for word in role.args]


def _check_shared(new: Endpoint, old: Endpoint, caller: Caller) -> None:
    changes = (
        ("spec.servedName", new.served_name != old.served_name),
        ("spec.model", new.spec.model != old.spec.model),
        ("spec.adapters", new.spec.adapters != old.spec.adapters),
        ("spec.canary", new.spec.canary != old.spec.canary),
        ("spec.shadow", new.spec.shadow != old.spec.shadow),
        ("spec.rateLimits", new.spec.rate_limits != old.spec.rate_limits),
    )
    for path, changed in changes:
        if changed:
            require(caller, "sharing", path, "is shared, so only a platform-admin changes it")


async def _check_demands(new: Endpoint, old: Endpoint | None, references: References) -> None:
    """Priority and replicas; what a platform-admin allowed may stay."""
    limits = await references.limits_of(new.project or "")
    before = (old.spec.priority, old.spec.queue) if old is not None else None
    if before != (new.spec.priority, new.spec.queue):
        queue = await references.find(Queue, new.spec.queue)
        check_priority("spec.priority", new.spec.priority, queue, limits)
    had = old.spec.engine_ranks if old is not None else 0
    if new.spec.engine_ranks > had:
        who = f"an endpoint of project {new.project}"
        check_room(who, "maxReplicas", limits.max_replicas, had, new.spec.engine_ranks - had)


async def check_withdrawal(resource: Resource, caller: Caller, store: Store) -> None:
    """Raise ``Forbidden`` where deleting the resource is the platform's: others use it, or making it anew
    would lift limits."""
    if isinstance(resource, Model | Endpoint | Route) and resource.spec.shared:
        require(caller, "sharing", resource.key, "is shared, so only a platform-admin deletes it")
    if isinstance(resource, Project) and not _may(caller, "limits"):
        tenant = await store.find(Tenant, resource.spec.tenant)
        others = [p for p in await store.list(Project) if p.spec.tenant == resource.spec.tenant]
        others = [other for other in others if other.name != resource.name]
        if lifts_limits(resource, tenant, others):
            message = "has queues or limits that a platform-admin set, so only a platform-admin deletes it"
            require(caller, "limits", resource.key, message)


_COUNTED = {"Endpoint": "max_endpoints", "Model": "max_models"}
"""Kinds that tenants apply, and the limit of each."""


async def check_limits(resources: Sequence[Resource], caller: Caller, references: References) -> None:
    """Raise ``Forbidden`` (``limit_reached``) when a project would hold more than it may. What is there
    already stays, and may be changed as long as it does not grow."""
    if _may(caller, "limits"):
        return
    for project in sorted({resource.project for resource in resources if resource.project}):
        limits = await references.limits_of(project)
        sizes = await references.sizes(project)
        new: dict[str, int] = {}
        growth = 0
        for resource in resources:
            if resource.project == project:
                old = await references.stored(resource)
                growth += _weight(resource) - (_weight(old) if old is not None else 0)
                new[resource.kind] = new.get(resource.kind, 0) + (old is None)
        who = f"project {project}"
        for kind, name in _COUNTED.items():
            held = sizes[kind].count if kind in sizes else 0
            check_room(who, to_camel(name), getattr(limits, name), held, new.get(kind, 0))
        held = sum(size.document_bytes for size in sizes.values())
        check_room(who, "maxDocumentBytes", limits.max_document_bytes, held, growth)
        await _check_replicas(who, project, limits, resources, references)


async def _check_replicas(
    who: str, project: str, limits: ProjectLimits, resources: Sequence[Resource], references: References
) -> None:
    """All endpoints together: many small ones are no way around the limit of one."""
    more = 0
    for endpoint in resources:
        if isinstance(endpoint, Endpoint) and endpoint.project == project:
            old = await references.stored(endpoint)
            more += endpoint.spec.engine_ranks - (old.spec.engine_ranks if old is not None else 0)
    if more > 0:
        after = sum(e.spec.engine_ranks for e in await references.list(Endpoint) if e.project == project)
        check_room(who, "maxTotalReplicas", limits.max_total_replicas, after - more, more)


def _weight(resource: Resource) -> int:
    """Bytes of the document; that of an endpoint or Job once more for each of its ranks: a workload repeats
    most of it, and says how each rank is."""
    size = len(resource.model_dump_json(by_alias=True, exclude_none=True).encode())
    if isinstance(resource, Job):
        return size * (1 + resource.spec.replicas)
    return size * (1 + resource.spec.engine_ranks) if isinstance(resource, Endpoint) else size
