"""The usage report, within what the caller may see."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from billing.reports import compute_report, usage_report
from billing.store.columns import GROUPS, TAG
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.usage_scope import scope_of, tags_of, time_ms

router = APIRouter(prefix="/api/v1", tags=["usage"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES)


class UsageBody(BaseModel):
    """Each row holds its group (tenant, project, …) and its sums: ``events``, ``requests``, tokens by kind,
    ``device_seconds`` and ``microcredits``; ``unpriced_lines`` counts what no price book covered.
    ``compute_unit_millis`` is the device time in thousandths of card-hours of the ``compute_unit``, by dense
    BF16 FLOPS; ``uncounted_device_seconds`` are of devices of which these are not known."""

    group_by: list[str]
    rows: list[dict[str, Any]]
    total: dict[str, Any]
    compute_unit: str


@router.get("/usage", response_model=UsageBody, summary="Usage and cost, added up by any columns")
async def get_usage(
    request: Request,
    caller: FromCaller,
    group_by: Annotated[
        str, Query(description=f"by commas: {', '.join(GROUPS)}, or {TAG}<name> for the values of a tag")
    ] = "",
    from_: Annotated[str | None, Query(alias="from", description="RFC 3339, date or milliseconds")] = None,
    to: Annotated[str | None, Query(description="like from; usage that ended before it counts")] = None,
    tenant: str | None = None,
    project: str | None = None,
    model: str | None = None,
    model_identity: str | None = None,
    key: str | None = None,
    user: Annotated[str | None, Query(description="the end user that requests name")] = None,
    adapter: str | None = None,
    endpoint: Annotated[str | None, Query(description="project/name")] = None,
    device_class: str | None = None,
    tag: Annotated[str | None, Query(description="name=value; several by commas")] = None,
) -> dict[str, Any]:
    context = context_of(request)
    scope = await scope_of(caller, context.store, tenant, project)
    named = {"user": user, "adapter": adapter, "endpoint": endpoint, "device_class": device_class}
    among = {name: (value,) for name, value in named.items() if value is not None}
    where = replace(
        scope,
        key=key,
        model=model,
        model_identity=model_identity,
        from_ms=time_ms("from", from_),
        to_ms=time_ms("to", to),
        among={**among, **tags_of(tag)},
    )
    groups = [name for name in group_by.split(",") if name]
    report = await usage_report(context.ledger, groups, where)
    return await compute_report(context.ledger, report, where, context.planner.compute_units)
