"""``GET /api/v1/margins``: what models were charged, beside what making it cost."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from billing.core.device_costs import CostTable, DeviceCost, Power
from billing.margins import MARGIN_GROUPS, margin_report
from billing.store import UsageFilter
from billing.store.columns import TAG
from common.errors import Forbidden
from common.settings.costs import CostsSettings
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.usage_scope import time_ms

router = APIRouter(prefix="/api/v1", tags=["usage"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES)


class MarginsBody(BaseModel):
    """Each row holds its group, ``tokens`` (of prompts, of answers, trained), ``device_seconds`` and those of
    classes without a cost, ``charged_microcredits``, ``made_microcredits`` (what the devices cost, as if busy
    all the time; by tenant, project or tag shared out by tokens), ``margin_microcredits`` (charged less
    made), ``margin_millis`` (margin by charged, in thousandths), and what a million tokens were charged and
    cost; null where there is nothing to divide by. ``devices``: an hour of each class, busy and idle."""

    group_by: list[str]
    rows: list[dict[str, Any]]
    total: dict[str, Any]
    devices: list[dict[str, Any]]


@router.get("/margins", response_model=MarginsBody, summary="What models were charged beside what they cost")
async def get_margins(
    request: Request,
    caller: FromCaller,
    group_by: Annotated[
        str, Query(description=f"by commas: {', '.join(MARGIN_GROUPS)}, or {TAG}<name>")
    ] = "model_identity",
    from_: Annotated[str | None, Query(alias="from", description="RFC 3339, date or milliseconds")] = None,
    to: Annotated[str | None, Query(description="like from; usage that ended before it counts")] = None,
) -> dict[str, Any]:
    """For platform-admins: costs of devices are settings (``costs``) of the control process."""
    if not caller.principal.is_platform_admin:
        caller.denied = True
        raise Forbidden("only platform-admins see what devices cost")
    context = context_of(request)
    groups = [name for name in group_by.split(",") if name]
    where = UsageFilter(from_ms=time_ms("from", from_), to_ms=time_ms("to", to))
    costs = cost_table(context.settings.costs)
    return (await margin_report(context.ledger, costs, groups, where)).to_dict()


def cost_table(settings: CostsSettings) -> CostTable:
    """The settings as the report reckons with them."""
    devices = {
        name: DeviceCost(
            device.purchase_microcredits, device.depreciation_years, device.busy_watts, device.idle_watts
        )
        for name, device in settings.devices.items()
    }
    return CostTable(devices, Power(settings.kwh_microcredits, settings.pue_millis))
