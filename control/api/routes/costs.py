"""The FOCUS export: a tenant's month as cost rows."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from billing.core.invoicing import Period
from billing.focus import GROUPS, Bill, csv_of, parquet_of, rows_of
from billing.store import ChargeRow, Ledger, UsageFilter
from billing.store.invoices import Invoices
from billing.store.order_charges import charges_of
from common.errors import InvalidInput
from common.resources import Tenant
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.routes.invoices import period_of

MAX_CHARGES = 200_000
router = APIRouter(prefix="/api/v1", tags=["usage"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES)


@router.get("/focus", summary="A tenant's month as FOCUS 1.2 cost rows")
async def get_focus(
    request: Request,
    caller: FromCaller,
    tenant: str,
    month: Annotated[str, Query(max_length=7, description="2026-03")],
    timezone: Annotated[str, Query(max_length=64, description="as the tenant's invoices have it")] = "UTC",
    currency: Annotated[
        str, Query(pattern="^[A-Z]{3}$", description="ISO 4217; one unit of it is what a credit costs")
    ] = "USD",
    format: Literal["csv", "parquet"] = "csv",
) -> Response:
    caller.require("invoices", "read")
    caller.require_tenant(tenant)
    context = context_of(request)
    found = await context.store.get(Tenant, tenant)
    period, born_ms = period_of(month, timezone), found.metadata.created_ms
    documents = await Invoices(context.ledger.database, context.clock).of_period(tenant, period, born_ms)
    charges = await _charges(context.ledger, tenant, period, born_ms)
    bill = Bill(tenant, found.spec.display_name, period, documents, currency)
    ordered = await charges_of(context.ledger.database, tenant, period, born_ms)
    rows = rows_of(bill, charges, ordered)
    name = f"focus-{tenant}-{month}.{format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if format == "parquet":
        content = await asyncio.to_thread(parquet_of, rows)
        return Response(content, media_type="application/vnd.apache.parquet", headers=headers)
    return StreamingResponse(csv_of(rows), media_type="text/csv; charset=utf-8", headers=headers)


async def _charges(ledger: Ledger, tenant: str, period: Period, born_ms: int) -> list[ChargeRow]:
    where = UsageFilter(tenant=tenant, from_ms=period.begin_ms, to_ms=period.end_ms, born_ms=born_ms)
    charges = await ledger.charges(GROUPS, where, MAX_CHARGES + 1)
    if len(charges) > MAX_CHARGES:
        raise InvalidInput(f"month: more than {MAX_CHARGES} rows", param="month")
    return charges
