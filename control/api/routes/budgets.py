"""What budgets have come to, now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from billing.core.budgets import Terms
from billing.store.books import readable_terms
from billing.store.budgets import Spending
from common.auth import Principal
from common.clock import rfc3339
from common.resources import Budget
from common.resources.budgets import BudgetScope
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.context import ControlContext
from control.core.permissions import allows

LIST_LIMIT = 1000
router = APIRouter(prefix="/api/v1", tags=["usage"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES)


class BalanceBody(BaseModel):
    """A budget in its present ``period``. ``spent`` is posted, ``held`` is lent to gateways for requests that
    run or may come, ``left`` is what is neither; all in ``unit`` (``microcredits``, ``tokens`` or
    ``device_seconds``). ``resetsAt``: when the next period begins, or the budget ends; null = never."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    name: str
    scope: dict[str, Any]
    enforcement: str
    period: str
    unit: str
    limit: int
    spent: int
    held: int
    left: int
    in_force: bool
    resets_at: str | None


class BalanceList(BaseModel):
    """By name."""

    items: list[BalanceBody]


@router.get("/budget-balances", response_model=BalanceList, summary="What budgets have come to, now")
async def get_balances(
    request: Request,
    caller: FromCaller,
    name: Annotated[str | None, Query(max_length=253, description="only this one")] = None,
    after: Annotated[str, Query(max_length=253, description="only those whose names come after it")] = "",
    limit: Annotated[int, Query(ge=1, le=LIST_LIMIT)] = LIST_LIMIT,
) -> BalanceList:
    """Those that the caller may see. Usage that waits in a gateway's spool is among ``held``."""
    caller.require("Budget", "read")
    context = context_of(request)
    seen = [one for one in await context.store.list(Budget) if caller.sees(one)]
    chosen = [one for one in seen if name in (None, one.name)]
    if name is not None and not chosen:
        raise caller.hidden("Budget", name)
    chosen = sorted((one for one in chosen if one.name > after), key=lambda one: one.name)[:limit]
    return BalanceList(items=await _balances(context, chosen))


async def binding_balances(context: ControlContext, who: Principal) -> list[BalanceBody]:
    """Those in force that all requests of a key are in, whatever their user and tags. A key that belongs to
    no tenant is in none; one that may read no Budgets is told of those that may refuse it."""
    if who.tenant is None:
        return []
    reads = allows(who.role, "Budget", "read")
    found = [
        one
        for one in await context.store.list(Budget)
        if _binds(one.spec.scope, who) and (reads or one.spec.enforcement == "hard")
    ]
    return [one for one in await _balances(context, found) if one.in_force]


def _binds(scope: BudgetScope, who: Principal) -> bool:
    wide = scope.user is None and not scope.tags
    return (
        wide
        and scope.tenant == who.tenant
        and scope.project in (None, who.project)
        and (scope.key in (None, who.key))
    )


async def _balances(context: ControlContext, budgets: Sequence[Budget]) -> list[BalanceBody]:
    """By name."""
    if not budgets:
        return []
    now_ms = context.clock.now_ms()
    terms = {one.name: one for one in readable_terms(budgets)}
    spending = await context.ledger.budgets.spending(terms.values(), now_ms)
    read = [one for one in budgets if one.name in terms]
    items = [_balance(one, terms[one.name], spending[terms[one.name].id], now_ms) for one in read]
    return sorted(items, key=lambda item: item.name)


def _balance(budget: Budget, terms: Terms, spending: Spending, now_ms: int) -> BalanceBody:
    resets_ms = terms.resets_ms(now_ms)
    return BalanceBody(
        name=budget.name,
        scope=budget.spec.scope.to_dict(),
        enforcement=budget.spec.enforcement,
        period=terms.period_at(now_ms),
        unit=terms.unit,
        limit=terms.limit,
        spent=spending.spent,
        held=spending.held,
        left=max(0, terms.limit - spending.spent - spending.held),
        in_force=terms.in_force(now_ms),
        resets_at=rfc3339(resets_ms) if resets_ms is not None else None,
    )
