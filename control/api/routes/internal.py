"""What gateway and supervisor ask of control, with the instance's internal token."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from billing import metrics as billing_metrics
from billing.core.events import UsageEvent
from common.errors import InvalidInput, Unavailable
from common.wire import DemandReport, GuardReport, RoutingTable, ThresholdReport, TrialReport
from control.api.errors import ERROR_RESPONSES
from control.api.requests import TOKEN_REQUIRED, StrictRoute, context_of, json_of
from control.api.routes.keys import KeyMade, bootstrap_admin, made_response
from control.context import ControlContext
from control.guard_hits import tell_hits
from inference.routes import KINDS

MAX_WAIT_SECONDS = 60.0
MAX_DRAIN_SECONDS = 600.0

router = APIRouter(
    prefix="/internal/v1",
    tags=["internal"],
    dependencies=TOKEN_REQUIRED,
    responses=ERROR_RESPONSES,
    route_class=StrictRoute,
)


class _Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, alias_generator=to_camel, populate_by_name=True
    )


class BootstrapRequest(_Body):
    """``rotate`` replaces the admin key."""

    rotate: bool = False


class DrainRequest(_Body):
    """How long to wait for the gangs to end, and whether the nodes' agents are to end then too."""

    timeout_seconds: float = Field(60.0, gt=0, le=MAX_DRAIN_SECONDS)
    dismiss_agents: bool = False


class DrainResult(BaseModel):
    """``gangs`` are those that still run."""

    drained: bool
    gangs: list[str]


class RejectedEvent(BaseModel):
    """An event that will never be posted: ``index`` is its place in the request."""

    index: int
    id: str
    message: str
    param: str | None = None


class PostedUsage(BaseModel):
    """``duplicates`` had been posted before."""

    accepted: int
    duplicates: int
    rejected: list[RejectedEvent]


@router.get(
    "/routes",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {}}, "description": "a routing table, as gateways read it"},
        304: {"description": "nothing has changed"},
    },
    summary="What a gateway must know",
)
async def get_routes(
    request: Request,
    since: Annotated[str, Query(description="version that the gateway has")] = "",
    wait_seconds: Annotated[
        float, Query(ge=0, le=MAX_WAIT_SECONDS, description="longest wait for a change")
    ] = 0,
) -> Response:
    table = await _changed_table(context_of(request), since, wait_seconds)
    if table is None:
        return Response(status_code=304)
    return Response(table.model_dump_json(), media_type="application/json")


async def _changed_table(context: ControlContext, since: str, wait_seconds: float) -> RoutingTable | None:
    """The routing table as soon as its version is not ``since``; None when that takes too long."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + wait_seconds
    while True:
        revision, table = await context.routes.current()
        if table.version != since:
            return table
        left_seconds = deadline - clock()
        if left_seconds <= 0 or not await context.wait_for_change(revision, left_seconds, KINDS):
            return None


@router.post(
    "/usage-events",
    response_model=PostedUsage,
    summary="Post usage events to the ledger, each once",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["events"],
                        "properties": {"events": {"type": "array", "items": {"type": "object"}}},
                    }
                }
            },
        }
    },
)
async def post_usage_events(request: Request) -> PostedUsage:
    """A wrong event is reported by its index and does not hold up the others."""
    content = await json_of(request)
    events = content.get("events") if isinstance(content, dict) else None
    if not isinstance(events, list):
        raise InvalidInput('the body must be {"events": […]}', param="events")
    good: list[tuple[int, UsageEvent]] = []
    rejected: list[RejectedEvent] = []
    for index, document in enumerate(events):
        try:
            good.append((index, UsageEvent.from_dict(document)))
        except InvalidInput as error:
            billing_metrics.EVENTS.labels("refused").inc()
            rejected.append(_rejected(index, document, error.message, error.param))
    posted = await context_of(request).ledger.post([event for _, event in good])
    refused = set(posted.refused)
    context_of(request).traffic.posted(event for _, event in good if event.id not in refused)
    rejected += [
        _rejected(index, event.to_dict(), posted.reason(event.id), "id")
        for index, event in good
        if event.id in refused
    ]
    return PostedUsage(
        accepted=posted.accepted,
        duplicates=posted.duplicates,
        rejected=sorted(rejected, key=lambda one: one.index),
    )


def _rejected(index: int, document: object, message: str, param: str | None) -> RejectedEvent:
    id_ = document.get("id") if isinstance(document, dict) else None
    return RejectedEvent(index=index, id=str(id_ or ""), message=message, param=param)


@router.post("/demand", status_code=204, summary="What a gateway has waiting and at work for Endpoints")
async def post_demand(request: Request, report: DemandReport) -> Response:
    """Takes the place of what the gateway told before; what it tells for a while counts no more then."""
    autoscaler = context_of(request).autoscaler
    if autoscaler is not None:
        autoscaler.board.report(report)
    return Response(status_code=204)


@router.post("/trials", status_code=204, summary="What a gateway has counted of canaries")
async def post_trials(request: Request, report: TrialReport) -> Response:
    """All that it has counted since it began, so that a report that is lost does no harm."""
    canaries = context_of(request).canaries
    if canaries is not None:
        canaries.report(report)
    return Response(status_code=204)


@router.post("/thresholds", status_code=204, summary="What a gateway has learned of prompts read apart")
async def post_thresholds(request: Request, report: ThresholdReport) -> Response:
    """Takes the place of what the gateway told before; what it tells for a while counts no more then."""
    context_of(request).thresholds.report(report)
    return Response(status_code=204)


@router.post("/guard-hits", status_code=204, summary="What guards have found at a gateway")
async def post_guard_hits(request: Request, report: GuardReport) -> Response:
    """Told once; an event of each guard, action and direction is kept for a minute."""
    context = context_of(request)
    await tell_hits(context.store, report, context.clock.now_ms())
    return Response(status_code=204)


@router.post(
    "/bootstrap", response_model=KeyMade, status_code=201, summary="Make the first platform-admin key"
)
async def bootstrap(request: Request, wanted: BootstrapRequest | None = None) -> JSONResponse:
    """409 when a platform-admin key is in force, unless ``rotate`` replaces the key ``admin``."""
    rotate = wanted is not None and wanted.rotate
    return made_response(await bootstrap_admin(context_of(request), rotate=rotate), 201)


@router.post("/drain", response_model=DrainResult, summary="Stop all gangs and wait until none runs")
async def drain(request: Request, wanted: DrainRequest | None = None) -> dict[str, Any]:
    """The loops stop too, so nothing is started again; afterwards the process is to be stopped."""
    run = context_of(request).drain
    if run is None:
        raise Unavailable("this process runs no gangs")
    how = wanted or DrainRequest()
    gangs = await run(how.timeout_seconds, how.dismiss_agents)
    return {"drained": not gangs, "gangs": gangs}
