"""Invoices and credit notes: a platform-admin issues them, a tenant-admin reads its tenant's."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from billing.core.invoicing import Document, Period
from billing.invoice_page import Language, invoice_page
from billing.months import month_of
from billing.store.invoices import LIST_LIMIT, Invoices
from common.errors import InvalidInput, NotFound
from common.resources import Tenant
from common.resources.fields import Name
from common.vocabulary import MAX_NUMBER, shortened
from control.admission.access import Caller
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, StrictRoute, context_of
from control.context import ControlContext

router = APIRouter(
    prefix="/api/v1/invoices",
    tags=["usage"],
    dependencies=KEY_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)


class IssueBody(BaseModel):
    """Which month of which tenant; ``timezone`` is where its midnights are, for all of a tenant's months."""

    model_config = ConfigDict(extra="forbid")

    tenant: Name
    month: str = Field(max_length=7, description="2026-03")
    timezone: str = Field("UTC", max_length=64)


class IssuedBody(BaseModel):
    """``document`` is what was issued now; null where everything was billed before, by ``earlier``."""

    document: dict[str, Any] | None
    earlier: list[str]


class InvoicesBody(BaseModel):
    """Documents without their lines."""

    items: list[dict[str, Any]]


@router.post("", response_model=IssuedBody, summary="Bill what a tenant's month has not been billed for yet")
async def issue(request: Request, caller: FromCaller, body: IssueBody) -> dict[str, Any]:
    caller.require("invoices", "write")
    context = context_of(request)
    tenant = await context.store.get(Tenant, body.tenant)
    issued = await _invoices(context).issue(
        tenant.name,
        tenant.spec.display_name,
        period_of(body.month, body.timezone),
        tenant.metadata.created_ms,
    )
    document = issued.document.to_dict() if issued.document else None
    return {"document": document, "earlier": [one.name for one in issued.earlier]}


@router.get(
    "", response_model=InvoicesBody, summary="Invoices and credit notes, in the order of their numbers"
)
async def list_invoices(
    request: Request,
    caller: FromCaller,
    tenant: str | None = None,
    after: Annotated[int, Query(ge=0, le=MAX_NUMBER, description="the number before the first one")] = 0,
    limit: Annotated[int, Query(ge=1, le=LIST_LIMIT)] = LIST_LIMIT,
) -> dict[str, Any]:
    """Without their lines."""
    context = context_of(request)
    tenant, born_ms = await _whose(caller, context, tenant)
    found = await _invoices(context).issued(tenant, after, limit, born_ms)
    return {"items": [{k: v for k, v in one.to_dict().items() if k != "lines"} for one in found]}


@router.get("/{number}", summary="An invoice or a credit note, as JSON or as a page")
async def get_invoice(
    request: Request,
    caller: FromCaller,
    number: Annotated[int, Path(ge=1, le=MAX_NUMBER)],
    format: Literal["json", "html"] = "json",
    language: Language = "en",
) -> Response:
    context = context_of(request)
    tenant, born_ms = await _whose(caller, context, None)
    document = await _invoices(context).find(number)
    if tenant is not None and (document.tenant != tenant or document.issued_ms < born_ms):
        caller.denied = True
        raise NotFound(f"there is no invoice {number}")
    return _shown(document, format, language)


def period_of(month: str, timezone: str) -> Period:
    """Raises ``InvalidInput``."""
    if timezone not in available_timezones():
        name = shortened(timezone, 64)
        raise InvalidInput(f"timezone: {name!r} is none; write UTC or Asia/Shanghai", param="timezone")
    try:
        return month_of(month, timezone)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"month: {shortened(month, 20)!r} is no month; write 2026-03", param="month"
        ) from error


def _invoices(context: ControlContext) -> Invoices:
    return Invoices(context.ledger.database, context.clock)


async def _whose(caller: Caller, context: ControlContext, tenant: str | None) -> tuple[str | None, int]:
    """The tenant that documents are held to (None = all), and when it was made."""
    caller.require("invoices", "read")
    if caller.principal.is_platform_admin:
        return tenant, 0
    if tenant is not None:
        caller.require_tenant(tenant)
    own = caller.principal.tenant or ""
    found = await context.store.find(Tenant, own)
    if found is None:
        raise caller.hidden("Tenant", own)
    return own, found.metadata.created_ms


def _shown(document: Document, format_: str, language: Language) -> Response:
    if format_ == "json":
        return Response(json.dumps(document.to_dict()), media_type="application/json")
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Response(invoice_page(document, language), media_type="text/html; charset=utf-8", headers=headers)
