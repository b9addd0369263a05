"""What happened: events of resources, and the audit log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from common.errors import InvalidInput
from common.resources import KINDS, PLURALS
from common.store.authorship import shown_to
from common.store.port import Event
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.core.permissions import allows

MAX_LIMIT = 1000

router = APIRouter(prefix="/api/v1", tags=["events"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES)


class EventBody(BaseModel):
    """Something that happened to a resource."""

    id: str
    timeMs: int  # noqa: N815 - the API's spelling
    level: Literal["info", "warning", "error"]
    reason: str
    message: str
    kind: str
    name: str
    project: str | None = None
    data: dict[str, Any] = {}


class EventList(BaseModel):
    """Oldest first."""

    items: list[EventBody]


class AuditBody(BaseModel):
    """Who did what; ``outcome`` is ``ok``, ``replayed`` or an error code. The action ``COUNTED`` stands for
    several refused requests; its ``outcome`` is that of the last."""

    id: str
    timeMs: int  # noqa: N815 - the API's spelling
    principal: str
    action: str
    target: str
    outcome: str


class AuditList(BaseModel):
    """Newest first."""

    items: list[AuditBody]


@router.get("/events", response_model=EventList, summary="Events of resources, oldest first")
async def list_events(
    request: Request,
    caller: FromCaller,
    kind: Annotated[str | None, Query(description="kind or its plural")] = None,
    name: str | None = None,
    project: str | None = None,
    after: Annotated[str | None, Query(description="id of the last event seen")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
    newest: Annotated[
        bool, Query(description="the last of them instead of the first; oldest first, too")
    ] = False,
) -> EventList:
    caller.require("events", "read")
    if kind is not None:
        kind = PLURALS[kind].__name__ if kind in PLURALS else kind
        if kind not in KINDS:
            raise InvalidInput(f"kind: {kind!r} is unknown; known kinds: {', '.join(KINDS)}", param="kind")
        caller.require(kind, "read")
    if project:
        caller.require_project(project)
    found = await context_of(request).store.events(
        kind=kind,
        name=name,
        project=project,
        after=after,
        limit=limit,
        kinds=[kind for kind in KINDS if allows(caller.principal.role, kind, "read")],
        viewer=caller.viewer,
        newest=newest,
    )
    whose = None if caller.viewer is None else caller.tenant_uid
    return EventList(items=[_event_body(shown_to(event, whose)) for event in found])


def _event_body(event: Event) -> EventBody:
    return EventBody(
        id=event.id,
        timeMs=event.time_ms,
        level=event.level,
        reason=event.reason,
        message=event.message,
        kind=event.kind,
        name=event.name,
        project=event.project,
        data=dict(event.data),
    )


@router.get("/audit", response_model=AuditList, summary="Who wrote what, and who was refused; newest first")
async def list_audit(
    request: Request, caller: FromCaller, limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100
) -> JSONResponse:
    caller.require("audit", "read")
    context = context_of(request)
    await context.audit.settle()
    entries = await context.store.audit_log(limit=limit)
    items = [
        {
            "id": entry.id,
            "timeMs": entry.time_ms,
            "principal": entry.principal,
            "action": entry.action,
            "target": entry.target,
            "outcome": entry.outcome,
        }
        for entry in entries
    ]
    return JSONResponse({"items": items})
