"""How much a project may hold and ask for, which queues it may use, and the error when that is not enough.

What a platform-admin wrote into the Project counts, else what stands in its Tenant, else the settings.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import Forbidden, Problem
from common.resources import Project, Queue, Tenant
from common.resources.people import ProjectLimits
from common.resources.rates import RateLimits
from common.settings import LimitsSettings
from common.store.port import Store
from common.vocabulary import MAX_LIST

LIMIT_REACHED = "limit_reached"
FIELDS = tuple(ProjectLimits.model_fields)
"""All limits of a project, by their names in Python."""


def limits_of(project: Project | None, tenant: Tenant | None, settings: LimitsSettings) -> ProjectLimits:
    """The limits in force: every field is set."""
    layers = [r.spec.limits for r in (project, tenant) if r is not None]
    return ProjectLimits(**{name: _first(name, layers, settings) for name in FIELDS})


def _first(name: str, layers: Sequence[ProjectLimits], settings: LimitsSettings) -> int:
    said = (getattr(layer, name) for layer in layers)
    found: int = next((value for value in said if value is not None), getattr(settings, name))
    return found


def origin_of(name: str, project: Project, tenant: Tenant | None) -> str:
    """Who set the limit of that name: ``project``, ``tenant`` or ``settings``."""
    if getattr(project.spec.limits, name) is not None:
        return "project"
    by_tenant = tenant is not None and getattr(tenant.spec.limits, name) is not None
    return "tenant" if by_tenant else "settings"


def queues_of(project: Project, tenant: Tenant | None) -> list[str]:
    """The queues that the project may use; empty = all."""
    return project.spec.queues or (tenant.spec.queues if tenant is not None else [])


async def find_limits(store: Store, project: str, settings: LimitsSettings) -> ProjectLimits:
    """The limits in force of the project of that name."""
    found = await store.find(Project, project)
    tenant = await store.find(Tenant, found.spec.tenant) if found is not None else None
    return limits_of(found, tenant, settings)


async def find_queues(store: Store, project: str) -> list[str]:
    """The queues that the project of that name may use; empty = all."""
    found = await store.get(Project, project)
    return queues_of(found, await store.find(Tenant, found.spec.tenant))


def inherited_limits(tenant: Tenant | None, others: Sequence[Project]) -> ProjectLimits:
    """What a new project of a tenant is given where its Tenant says nothing: as much as the most generous of
    its ``others``, so that a new one is no way around a limit that all of them have."""
    limits = ProjectLimits()
    for name in FIELDS:
        known = [getattr(other.spec.limits, name) for other in others]
        said = getattr(tenant.spec.limits, name) if tenant is not None else None
        if said is None and known and None not in known:
            setattr(limits, name, max(known))
    return limits


def inherited_rates(others: Sequence[Project]) -> RateLimits:
    """The same for what it may ask of models. Those of the Tenant bind beside them."""
    limits = RateLimits()
    for name in RateLimits.model_fields:
        known = [getattr(other.spec.rate_limits, name) for other in others]
        if known and None not in known:
            setattr(limits, name, max(known))
    return limits


def inherited_queues(tenant: Tenant | None, others: Sequence[Project]) -> list[str]:
    """The same for its queues; empty = as the Tenant says."""
    if (tenant is not None and tenant.spec.queues) or not all(other.spec.queues for other in others):
        return []
    return sorted({queue for other in others for queue in other.spec.queues})[:MAX_LIST]


def lifts_limits(project: Project, tenant: Tenant | None, others: Sequence[Project]) -> bool:
    """Whether a new project of the tenant would have no limit where this one, once deleted, had one."""
    next_limits = inherited_limits(tenant, others).to_dict()
    kept = {**next_limits, **(tenant.spec.limits.to_dict() if tenant is not None else {})}
    if project.spec.limits.to_dict().keys() - kept.keys():
        return True
    if project.spec.rate_limits.to_dict().keys() - inherited_rates(others).to_dict().keys():
        return True
    bounded = bool(inherited_queues(tenant, others) or (tenant is not None and tenant.spec.queues))
    return bool(project.spec.queues) and not bounded


def priority_ceiling(queue: Queue | None, limits: ProjectLimits) -> int:
    """The highest priority that may be asked for in the queue: its default always is."""
    ceiling = limits.max_priority or 0
    if queue is None:
        return ceiling
    if queue.spec.max_priority is not None:
        ceiling = min(ceiling, queue.spec.max_priority)
    return max(ceiling, queue.spec.default_priority)


def check_priority(path: str, priority: int | None, queue: Queue | None, limits: ProjectLimits) -> None:
    """Raise ``Forbidden`` naming ``path`` when the priority is above the ceiling; None is the queue's
    default.
    """
    ceiling = priority_ceiling(queue, limits)
    if priority is not None and priority > ceiling:
        where = f" in the queue {queue.name}" if queue is not None else ""
        raise _refused(
            path,
            f"{priority} is above {ceiling}, the highest that this project may ask for{where}; leave it out "
            "for the queue's default, or ask a platform-admin",
        )


def check_room(project: str, field: str, limit: int | None, used: int, more: int) -> None:
    """Raise ``Forbidden`` (``limit_reached``) when a project that holds ``used`` may not have ``more``.

    ``field`` is the limit's name in ``Project.spec.limits``.
    """
    if limit is None or more <= 0 or used + more <= limit:
        return
    raise _refused(
        f"spec.limits.{field}",
        f"{project} may have {limit} and has {used}, so there is no room for {more} more; delete what is not "
        "needed, or ask a platform-admin for a higher limit",
    )


def _refused(path: str, message: str) -> Forbidden:
    problem = Problem(path, message, LIMIT_REACHED)
    return Forbidden(f"{path}: {message}", LIMIT_REACHED, path, (problem,))
