"""The usage report, within what the caller may see."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from billing.reports import usage_report
from billing.store import UsageFilter
from common.clock import parse_rfc3339
from common.errors import InvalidInput
from common.resources import Project, Tenant
from common.store.port import Store
from common.vocabulary import MAX_TIME_MS
from control.admission.access import Caller
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

router = APIRouter(prefix="/api/v1", tags=["usage"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES)


class UsageBody(BaseModel):
    """Each row holds its group (tenant, project, …) and its sums: ``events``, ``requests``, tokens by kind,
    ``device_seconds`` and ``microcredits``; ``unpriced_lines`` counts what no price book covered."""

    group_by: list[str]
    rows: list[dict[str, Any]]
    total: dict[str, Any]


@router.get("/usage", response_model=UsageBody, summary="Usage and cost, added up by any columns")
async def get_usage(
    request: Request,
    caller: FromCaller,
    group_by: Annotated[
        str,
        Query(description="tenant, project, key, model, model_identity, kind, device_class, day; by commas"),
    ] = "",
    from_: Annotated[str | None, Query(alias="from", description="RFC 3339, date or milliseconds")] = None,
    to: Annotated[str | None, Query(description="like from; usage that ended before it counts")] = None,
    tenant: str | None = None,
    project: str | None = None,
    model: str | None = None,
    model_identity: str | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    caller.require("usage", "read")
    tenant, project = _scope(caller, tenant, project)
    context = context_of(request)
    born_ms = 0 if caller.principal.is_platform_admin else await _born_ms(context.store, tenant, project)
    where = UsageFilter(
        tenant=tenant,
        project=project,
        key=key,
        model=model,
        model_identity=model_identity,
        from_ms=_time("from", from_),
        to_ms=_time("to", to),
        born_ms=born_ms,
    )
    groups = [name for name in group_by.split(",") if name]
    return (await usage_report(context.ledger, groups, where)).to_dict()


def _scope(caller: Caller, tenant: str | None, project: str | None) -> tuple[str | None, str | None]:
    """The tenant and project that the report is held to; raises ``NotFound`` for those of others."""
    principal = caller.principal
    if principal.is_platform_admin:
        return tenant, project
    if tenant is not None:
        caller.require_tenant(tenant)
    if project is not None:
        caller.require_project(project)
    if principal.tenant is None:
        raise caller.hidden("Tenant", tenant or "")
    return principal.tenant, project or principal.project


async def _born_ms(store: Store, tenant: str | None, project: str | None) -> int:
    """When the tenant and the project were made: usage from before is that of others who had the names."""
    made = (
        await store.find(Tenant, tenant) if tenant else None,
        await store.find(Project, project) if project else None,
    )
    return max((one.metadata.created_ms for one in made if one is not None), default=0)


def _in_range(time_ms: int) -> int:
    if time_ms > MAX_TIME_MS:
        raise ValueError(f"{time_ms} ms is too far away")
    return time_ms


def _time(name: str, text: str | None) -> int | None:
    """Milliseconds since the epoch."""
    if text is None:
        return None
    try:
        if text.isdecimal():
            return _in_range(int(text))
        return parse_rfc3339(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    except ValueError as error:
        raise InvalidInput(
            f"{name}: {text!r} is no time; write 2026-01-31, 2026-01-31T12:00:00Z or milliseconds", param=name
        ) from error
