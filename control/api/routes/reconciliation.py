"""``GET /api/v1/reconciliation``: what engines have counted beside the events, window by window."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from billing.core.reconciliation import Counts, Result
from common.clock import rfc3339
from common.errors import Forbidden, Unavailable
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.reconciling import telling
from control.reconciling.loop import EngineFinding

router = APIRouter(
    prefix="/api/v1/reconciliation", tags=["usage"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES
)


class CountsBody(BaseModel):
    """Tokens of prompts and of answers."""

    prompt: int
    completion: int


class FindingBody(BaseModel):
    """One window of one engine."""

    endpoint: str = Field(description="project/name")
    engine: str = Field(description="name of its Workload")
    from_: str = Field(alias="from", description="RFC 3339")
    to: str
    result: Result
    counted: CountsBody = Field(description="by the engine")
    low: CountsBody = Field(description="the least that fits the events")
    high: CountsBody = Field(description="the most that fits the events")
    missing: CountsBody = Field(description="billed, and not counted")
    surplus: CountsBody = Field(description="counted, and not billed")
    cut_off: int = Field(alias="cutOff", description="requests that ended before their answers did")
    unanswered: int = Field(description="sequences that no event tells of")
    message: str


class ReconciliationBody(BaseModel):
    """``items``: the latest first."""

    engines: int = Field(description="that are followed")
    ledger_apart: dict[str, int] | None = Field(
        alias="ledgerApart", description="sums of the ledger that differ; null = not looked at yet"
    )
    items: list[FindingBody]


@router.get(
    "", response_model=ReconciliationBody, summary="Engines' counters beside the events, window by window"
)
async def get_reconciliation(request: Request, caller: FromCaller) -> ReconciliationBody:
    """What was found since this control process leads, the last 500 windows."""
    if not caller.principal.is_platform_admin:
        caller.denied = True
        raise Forbidden("only platform-admins see what engines have counted")
    reconciler = context_of(request).reconciler
    if reconciler is None:
        raise Unavailable("this control process does not reconcile")
    apart = reconciler.ledger_apart
    return ReconciliationBody(
        engines=reconciler.engines,
        ledgerApart=dict(apart) if apart is not None else None,
        items=[_body(found) for found in reversed(reconciler.findings)],
    )


def _body(found: EngineFinding) -> FindingBody:
    finding = found.finding
    return FindingBody.model_validate(
        {
            "endpoint": found.endpoint,
            "engine": found.engine,
            "from": rfc3339(finding.from_ms),
            "to": rfc3339(finding.to_ms),
            "result": finding.result,
            "counted": _counts(finding.counted),
            "low": _counts(finding.bounds.low),
            "high": _counts(finding.bounds.high),
            "missing": _counts(finding.missing),
            "surplus": _counts(finding.surplus),
            "cutOff": finding.bounds.cut_off,
            "unanswered": finding.unanswered,
            "message": telling.in_words(found.engine, finding),
        }
    )


def _counts(counts: Counts) -> CountsBody:
    return CountsBody(prompt=counts.prompt, completion=counts.completion)
