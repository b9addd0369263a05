"""A dry run of new price books over past usage."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from billing.dry_run import dry_run
from billing.store.books import book_of
from common.errors import InvalidInput
from common.resources import Price
from common.resources.fields import Name
from common.vocabulary import MAX_LIST
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, StrictRoute, context_of
from control.api.usage_scope import time_ms
from control.api.writes import apply_resources, parse_documents

router = APIRouter(
    prefix="/api/v1/prices",
    tags=["usage"],
    dependencies=KEY_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)


class DryRunBody(BaseModel):
    """``documents``: Prices, as for ``/apply``. Usage that ended from ``from`` to before ``to`` (unset = now)
    is rated; only of ``tenant``, where it is given."""

    model_config = ConfigDict(extra="forbid")

    documents: Annotated[list[Any], Field(min_length=1, max_length=MAX_LIST)]
    from_: str = Field(alias="from", max_length=64, description="RFC 3339, date or milliseconds")
    to: str | None = Field(None, max_length=64)
    tenant: Name | None = None


class DryRunAnswer(BaseModel):
    """Each tenant has ``events``, ``charged_microcredits`` (as it was), ``microcredits`` (as it would have
    been) and ``difference_microcredits``; ``unpriced_lines`` would have had no price, ``unpriced`` names
    some."""

    tenants: list[dict[str, Any]]
    total: dict[str, int]
    unpriced: list[str]
    warnings: list[str]


@router.post(
    "/dry-run",
    response_model=DryRunAnswer,
    summary="What past usage would have cost with these price books; nothing is written",
)
async def post_dry_run(request: Request, caller: FromCaller, body: DryRunBody) -> dict[str, Any]:
    """The documents are checked as for ``/apply``. They count for the whole span, whenever they begin, in
    place of the books that there are for the same tenants; volume counts from the span's first event."""
    caller.require("Price", "write")
    context = context_of(request)
    resources = parse_documents(body.documents)
    proposed = [one for one in resources if isinstance(one, Price)]
    if len(proposed) != len(resources):
        raise InvalidInput("documents: only Prices can be tried", param="documents")
    audiences = [one.spec.tenant for one in proposed]
    if len(set(audiences)) != len(audiences):
        raise InvalidInput(
            "documents: more than one Price for the same tenant, or for all", param="documents"
        )
    standing = [book_of(one) for one in await context.store.list(Price)]
    written = await apply_resources(context, caller, resources, dry_run=True)
    to_ms = time_ms("to", body.to)
    answer = await dry_run(
        context.ledger,
        standing,
        [book_of(one) for one in proposed],
        time_ms("from", body.from_) or 0,
        context.clock.now_ms() if to_ms is None else to_ms,
        body.tenant,
    )
    return {**answer, "warnings": [line for lines in written.warnings for line in lines]}
