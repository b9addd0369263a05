"""The watch stream: one JSON line per change that the caller may see, and heartbeats while there is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from common.errors import ComputilityError, InvalidInput
from common.resources import KINDS, PLURALS
from common.store.ownership import Viewer
from common.store.port import Change
from control.admission.access import DIRECTORY_KINDS, Caller, authenticate
from control.api.errors import ERROR_RESPONSES
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.change_feed import ChangeFeed, Watch
from control.core.permissions import allows

HEARTBEAT_SECONDS = 10.0
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
    means that it was away for too long and has to list again. 429 means that the key has as many watches open
    as it may.
    """
    context = context_of(request)
    caller.require("watch", "read")
    wanted = _kinds(kinds, caller)
    if project:
        caller.require_project(project)
    start = await context.store.revision() if since is None else since
    await context.store.changes(start, limit=1, viewer=caller.viewer)
    seat = context.feed.open(caller.key_uid, start)
    lines = _lines(request, caller, seat, wanted, project, timeout_seconds)
    return _Stream(lines, context.feed, seat)


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


class _Stream(StreamingResponse):
    """The answer; when it ends, however it ends, its watch does."""

    def __init__(self, lines: AsyncIterator[str], feed: ChangeFeed, seat: Watch) -> None:
        headers = {"Cache-Control": "no-store"}
        super().__init__(lines, media_type="application/x-ndjson", headers=headers)
        self._feed, self._watch = feed, seat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.close(self._watch)


async def _lines(
    request: Request,
    caller: Caller,
    watch: Watch,
    kinds: Sequence[str],
    project: str | None,
    timeout_seconds: float | None,
) -> AsyncIterator[str]:
    context = context_of(request)
    feed, clock = context.feed, asyncio.get_running_loop().time
    end = None if timeout_seconds is None else clock() + timeout_seconds
    yield _heartbeat(watch.since)
    while True:
        watch.wants = partial(_wanted, kinds, caller.viewer)
        try:
            told, watch.since = await feed.after(watch.since, kinds, caller.viewer)
        except ComputilityError:  # it was too slow, or the store is away: asked again, the answer says which
            return
        try:  # what was read may be what ends the key
            known = max(feed.end, watch.since)
            caller = await authenticate(request.headers, context.directories, context.clock, known)
        except ComputilityError:  # the key is no longer in force
            return
        for one in told:
            if project is None or one.change.resource.project == project:
                yield one.line
        left = HEARTBEAT_SECONDS if end is None else min(HEARTBEAT_SECONDS, end - clock())
        if left <= 0:
            return
        await feed.wait(watch, left, context.ending)
        if context.ending.is_set():
            return
        if not watch.woken.is_set() and watch.since >= feed.end:
            yield _heartbeat(watch.since)


def _wanted(kinds: Sequence[str], viewer: Viewer | None, change: Change) -> bool:
    """Whether a change concerns a stream: because it is shown, or because it may end it."""
    kind = change.resource.kind
    return kind in DIRECTORY_KINDS or (kind in kinds and (viewer is None or viewer.sees(change.owner)))


def _heartbeat(revision: int) -> str:
    return json.dumps({"type": "heartbeat", "revision": revision}) + "\n"
