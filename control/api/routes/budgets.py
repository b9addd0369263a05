"""What budgets have come to, now."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from billing.core.budgets import Terms
from billing.store.books import terms_of
from billing.store.budgets import Spending
from common.clock import rfc3339
from common.resources import Budget
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of

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
) -> BalanceList:
    """Those that the caller may see. Usage that waits in a gateway's spool is among ``held``."""
    caller.require("Budget", "read")
    context = context_of(request)
    seen = [one for one in await context.store.list(Budget) if caller.sees(one)]
    chosen = [one for one in seen if name in (None, one.name)]
    if name is not None and not chosen:
        raise caller.hidden("Budget", name)
    now_ms = context.clock.now_ms()
    terms = {one.name: terms_of(one) for one in chosen}
    spending = await context.ledger.budgets.spending(terms.values(), now_ms)
    items = [_balance(one, terms[one.name], spending[terms[one.name].id], now_ms) for one in chosen]
    return BalanceList(items=sorted(items, key=lambda item: item.name))


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
