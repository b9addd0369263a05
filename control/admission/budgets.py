"""What may be written to a Budget: a scope that is there, a beginning that is not over, and nothing that
would make what is counted mean something else."""

from __future__ import annotations

from collections.abc import Sequence

from billing.core.budgets import Terms
from billing.store.books import terms_of
from common.clock import rfc3339
from common.errors import Conflict, InvalidInput
from common.resources import ApiKey, Budget, Project, Tenant
from common.resources.budgets import BudgetSpec
from common.vocabulary import MAX_TIME_MS
from control.admission.access import Caller
from control.admission.lookup import References, missing
from control.admission.price_items import refused
from control.admission.rights import require
from control.core.permissions import Owner

MAX_BUDGETS = 1000
"""Of a tenant."""
MAX_OF_SCOPE = 16
"""With the same scope: each request of it is counted against all of them."""
_FIXED = ("scope", "period", "time_zone", "effective_from")


async def check_budget(budget: Budget, caller: Caller, references: References) -> None:
    """Raise unless the budget may be written by the caller in place of the one that is stored, if any."""
    old = await references.stored(budget)
    if old is not None and not caller.sees(old):
        raise Conflict(f"the name {budget.name} is taken; choose another", param="metadata.name")
    await _check_scope(budget, caller, references)
    check_rights(budget, caller)
    check_times(budget, old, references.now_ms)
    others = [one for one in await references.list(Budget) if one.name != budget.name]
    check_beside(budget, others)


def check_rights(budget: Budget, caller: Caller) -> None:
    """What a whole tenant may spend is the platform's to say; within it, the tenant's."""
    scope = budget.spec.scope
    if not (scope.project or scope.key or scope.user or scope.tags):
        message = (
            "only a platform-admin writes the budget of a whole tenant; name a project, key, user or tags"
        )
        require(caller, "limits", "spec.scope", message)


def check_times(budget: Budget, old: Budget | None, now_ms: int) -> None:
    """Raise ``InvalidInput`` for a budget of the past, or one that would count otherwise than before. One
    that does not say when it begins goes on as it did; a new one begins now."""
    spec = budget.spec
    if spec.effective_from is None:
        spec.effective_from = rfc3339(now_ms if old is None else terms_of(old).from_ms)
    terms = terms_of(budget)
    if old is not None:
        _check_change(spec, old.spec)
    elif terms.from_ms < now_ms:
        raise refused("spec.effectiveFrom", f"{spec.effective_from} is over; leave it out to begin now")
    if terms.until_ms is not None and terms.until_ms <= max(terms.from_ms, now_ms):
        is_same = old is not None and old.spec.effective_until == spec.effective_until
        if not is_same:
            raise refused("spec.effectiveUntil", "must be after effectiveFrom, and not over")
    if spec.enforcement == "hard" and terms.unit == "device_seconds":
        raise refused(
            "spec.enforcement",
            "devices cannot be held before they are used, so deviceHours are soft; write enforcement: soft",
        )
    thresholds = spec.notify_at_percent
    if sorted(set(thresholds)) != thresholds:
        raise refused("spec.notifyAtPercent", "must rise, each once")


def _check_change(new: BudgetSpec, old: BudgetSpec) -> None:
    """What is counted keeps its meaning."""
    for name, path in zip(_FIXED, ("scope", "period", "timeZone", "effectiveFrom"), strict=True):
        if getattr(new, name) != getattr(old, name):
            raise refused(f"spec.{path}", "cannot change, as use is counted by it; make another Budget")
    units = [set(one.limit.to_dict()) for one in (new, old)]
    if units[0] != units[1]:
        raise refused("spec.limit", "its unit cannot change, as use is counted in it; make another Budget")


async def _check_scope(budget: Budget, caller: Caller, references: References) -> None:
    scope = budget.spec.scope
    tenant = scope.tenant
    if not caller.sees_owner(Owner(tenant=tenant)) or await references.find(Tenant, tenant) is None:
        raise missing("spec.scope.tenant", f"there is no Tenant {tenant!r}")
    if scope.project is not None:
        project = await references.find(Project, scope.project)
        if project is None or project.spec.tenant != tenant:
            message = f"there is no Project {scope.project!r} of tenant {tenant}"
            raise missing("spec.scope.project", message)
    if scope.key is not None:
        key = await references.find(ApiKey, scope.key)
        if key is None or not await _is_of(key, budget, caller, references):
            whose = scope.project or tenant
            raise missing("spec.scope.key", f"there is no API key {scope.key!r} of {whose}")


async def _is_of(key: ApiKey, budget: Budget, caller: Caller, references: References) -> bool:
    """Whether use of the key may be billed to what the budget counts. Of a platform-admin's keys others learn
    nothing."""
    scope = budget.spec.scope
    if key.spec.project is None:
        return key.spec.tenant == scope.tenant or (
            key.spec.tenant is None and caller.principal.is_platform_admin
        )
    project = await references.find(Project, key.spec.project)
    is_there = scope.project in (None, key.spec.project)
    return project is not None and project.spec.tenant == scope.tenant and is_there


def check_beside(budget: Budget, others: Sequence[Budget]) -> None:
    """Raise ``InvalidInput`` for one too many, or one that says what another says already."""
    spec, terms = budget.spec, terms_of(budget)
    of_tenant = [one for one in others if one.spec.scope.tenant == spec.scope.tenant]
    if len(of_tenant) >= MAX_BUDGETS:
        raise InvalidInput(
            f"tenant {spec.scope.tenant} has {MAX_BUDGETS} Budgets, and may have no more", "limit_reached"
        )
    alike = [one for one in of_tenant if one.spec.scope == spec.scope]
    if len(alike) >= MAX_OF_SCOPE:
        message = f"{MAX_OF_SCOPE} Budgets have this scope already, and no more may"
        raise refused("spec.scope", message)
    for other in alike:
        if _says_the_same(other, budget, terms):
            raise refused(
                "spec.scope",
                f"{other.key} has the same scope, period, unit and enforcement at the same time, so only the "
                "lower of both limits would count; change that one",
            )


def _says_the_same(other: Budget, budget: Budget, terms: Terms) -> bool:
    known, spec = terms_of(other), budget.spec
    kinds = [(one.period, one.time_zone, one.enforcement) for one in (other.spec, spec)]
    if kinds[0] != kinds[1] or known.unit != terms.unit:
        return False
    ends, known_ends = (one.until_ms or MAX_TIME_MS for one in (terms, known))
    return known.from_ms < ends and terms.from_ms < known_ends
