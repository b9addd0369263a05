"""Leases of budgets, which gateways ask for and report on."""

from __future__ import annotations

from fastapi import APIRouter, Request

from billing.core.leases import Ask
from billing.store.budgets import Renewed, Wanted
from common.wire import LeaseAnswer, LeaseAnswers, LeaseAsk, LeaseReport
from control.api.errors import ERROR_RESPONSES
from control.api.requests import TOKEN_REQUIRED, StrictRoute, context_of

router = APIRouter(
    prefix="/internal/v1",
    tags=["internal"],
    dependencies=TOKEN_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)


@router.post(
    "/budget-leases", response_model=LeaseAnswers, summary="What a gateway holds of budgets, and wants"
)
async def post_budget_leases(request: Request, report: LeaseReport) -> LeaseAnswers:
    """Each answer is durable before it is given. Of a budget that is gone there is no room any more."""
    budgets = context_of(request).ledger.budgets
    if report.ended:
        await budgets.end(report.ended)
    known = (await budgets.index()).by_id
    wanted = [
        Wanted(known[ask.budget], ask.period, _asked(report, ask))
        for ask in report.leases
        if ask.budget in known
    ]
    found = iter(await budgets.renew(report.holder, wanted) if wanted else ())
    return LeaseAnswers(
        leases=tuple(
            _answer(ask, next(found)) if ask.budget in known else _gone(ask) for ask in report.leases
        )
    )


def _asked(report: LeaseReport, ask: LeaseAsk) -> Ask:
    return Ask(report.sequence, ask.firm, ask.room, ask.needed, ask.active, ask.least)


def _answer(ask: LeaseAsk, found: Renewed) -> LeaseAnswer:
    return LeaseAnswer(
        budget=ask.budget,
        period=ask.period,
        change=found.lease.change,
        spent=found.spent,
        held=found.others,
    )


def _gone(ask: LeaseAsk) -> LeaseAnswer:
    return LeaseAnswer(budget=ask.budget, period=ask.period, change=-ask.room, spent=0, held=0)
