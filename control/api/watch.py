"""The watch stream: one JSON line per change that the caller may see, and heartbeats while there is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from common.errors import ComputilityError, InvalidInput
from common.resources import KINDS, PLURALS
from common.store.port import Change
from control.api.access import Caller, authenticate, document_of
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.core.permissions import allows

if TYPE_CHECKING:
    from control.context import ControlContext

HEARTBEAT_SECONDS = 10.0
BATCH = 500
_LINES = {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}

router = APIRouter(prefix="/api/v1", tags=["watch"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES)


@router.get(
    "/watch",
    response_class=StreamingResponse,
    responses={200: {**_LINES, "description": 'lines of {"type", "revision", "resource"}'}},
    summary="Stream changes as they happen",
)
async def watch(
    request: Request,
    caller: FromCaller,
    kinds: Annotated[
        str, Query(description="kinds to watch, joined by commas; empty = all that is visible")
    ] = "",
    since: Annotated[
        int | None, Query(ge=0, le=2**63 - 1, description="revision to go on from; unset = now")
    ] = None,
    project: Annotated[str | None, Query(description="only this project")] = None,
    timeout_seconds: Annotated[
        float | None, Query(gt=0, description="end after so long; unset = never")
    ] = None,
) -> StreamingResponse:
    """Each line is ``{"type": "put" | "delete" | "heartbeat", "revision": n, "resource": {…}}``.

    A client that was away goes on with ``since`` = the last revision it saw; 409 with the code ``gone``
    means that it was away for too long and has to list again.
    """
    context = context_of(request)
    caller.require("watch", "read")
    wanted = _kinds(kinds, caller)
    if project:
        caller.require_project(project)
    start = await context.store.revision() if since is None else since
    await context.store.changes(start, limit=1, viewer=caller.viewer)
    lines = _lines(context, request, caller, wanted, project, start, timeout_seconds)
    return StreamingResponse(lines, media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


def _kinds(text: str, caller: Caller) -> list[str]:
    if not text:
        return [kind for kind in KINDS if allows(caller.principal.role, kind, "read")]
    chosen = []
    for name in filter(None, text.split(",")):
        kind = PLURALS[name].__name__ if name in PLURALS else name
        if kind not in KINDS:
            raise InvalidInput(f"kinds: {name!r} is unknown; known kinds: {', '.join(KINDS)}", param="kinds")
        caller.require(kind, "read")
        chosen.append(kind)
    return chosen


async def _lines(
    context: ControlContext,
    request: Request,
    caller: Caller,
    kinds: Sequence[str],
    project: str | None,
    since: int,
    timeout_seconds: float | None,
) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    end = None if timeout_seconds is None else clock() + timeout_seconds
    store = context.store
    yield _heartbeat(since)
    while True:
        revision = await store.revision()
        changes = await store.changes(since, kinds=kinds, limit=BATCH, viewer=caller.viewer)
        for change in changes:
            if project is None or change.resource.project == project:
                yield _line(change)
        full = len(changes) == BATCH
        since = changes[-1].revision if full else max(since, revision, *(c.revision for c in changes))
        left = HEARTBEAT_SECONDS if end is None else end - clock()
        if left <= 0:
            return
        if not full and not await context.wait_for_change(since, min(HEARTBEAT_SECONDS, left)):
            if context.ending.is_set():
                return
            yield _heartbeat(since)
        try:
            caller = await authenticate(request.headers, context.directories, context.clock)
        except ComputilityError:  # the key is no longer in force
            return


def _line(change: Change) -> str:
    content: dict[str, Any] = {
        "type": change.type,
        "revision": change.revision,
        "resource": document_of(change.resource),
    }
    return json.dumps(content) + "\n"


def _heartbeat(revision: int) -> str:
    return json.dumps({"type": "heartbeat", "revision": revision}) + "\n"
