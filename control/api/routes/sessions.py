"""The session of a job: its terminal, and ports within its cell. Each request is checked anew, so what a
revoked key began goes no further."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from common.errors import Conflict, NotFound, TooLarge, Unavailable
from common.resources import Job, Workload
from common.units import format_bytes
from common.vocabulary import MAX_NUMBER
from control.admission.access import Caller, authenticate
from control.api.errors import ERROR_RESPONSES
from control.api.exchange import exchange_of
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.writes import visible_resource
from control.context import ControlContext
from control.core.permissions import Verb
from scheduler.ports import Fabric
from scheduler.sessions import (
    Closed,
    Opened,
    OutputFrom,
    ReceivedFrom,
    Resized,
    Sent,
    SessionAnswer,
    SessionAsk,
    Typed,
)

PIECE_BYTES = 64 * 1024
"""So many bytes go into a session at a time."""
CHUNK_BYTES = 256 * 1024
WRITER_PATTERN = "^[A-Za-z0-9_-]{1,64}$"
MAX_SIDE = 1000
"""Rows or columns of a window."""
NEXT_OFFSET = "Computility-Next-Offset"
ENDED = "Computility-Ended"
LAST_CONNECTION = 2**32 - 1
ANEW_SECONDS = 1.0
"""Whoever has waited so long for an answer needs a valid key again to get it."""

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES)
FromProject = Annotated[str | None, Query(description="unset = the project of the key, if it has one")]
FromAttempt = Annotated[int, Query(ge=1, le=MAX_NUMBER, description="of the job; another is not meant")]
FromOffset = Annotated[int, Query(ge=0, le=MAX_NUMBER, description="in bytes")]
Port = Annotated[int, Query(ge=1, le=65_535)]


class Connected(BaseModel):
    """A connection to a port of a job."""

    connection: int


@dataclass(frozen=True)
class _Session:
    """The session of the only rank of a job's current attempt."""

    job: Job
    fabric: Fabric
    node: str
    uid: str
    attempt: int

    async def ask(self, ask: SessionAsk) -> SessionAnswer:
        return await self.fabric.session(self.node, self.uid, self.attempt, 0, ask)

    async def printed(self, offset_bytes: int) -> SessionAnswer:
        """What it prints; what is left of its log where its node has forgotten it already."""
        try:
            return await self.ask(OutputFrom(offset_bytes))
        except NotFound:
            chunk = await self.fabric.read_log(
                self.node, self.uid, self.attempt, 0, offset_bytes, CHUNK_BYTES
            )
            return SessionAnswer(chunk.data, chunk.next_offset, not chunk.data)


async def _session_of(
    context: ControlContext, caller: Caller, name: str, project: str | None, attempt: int, verb: Verb
) -> _Session:
    """Raises ``Forbidden`` or ``NotFound`` for whom it is not there, ``Conflict`` for another attempt."""
    caller.require("Job", verb)
    where = caller.project_for(Job, project)
    job = await visible_resource(context, caller, Job, name, where)
    if verb != "read" and not caller.sees(job, verb):
        raise caller.hidden("Job", name, where)
    if context.fabric is None:
        raise Unavailable("this process reaches no jobs")
    if job.spec.session is None:
        raise Conflict(f"job {name} has no session: its spec.session asks for one when it is made")
    workload = await context.store.find(Workload, job.status.workload or name, where)
    owner = workload.metadata.owner if workload is not None else None
    if workload is None or owner is None or owner.uid != job.metadata.uid or not workload.status.ranks:
        raise NotFound(f"job {name} does not run: it is {job.status.phase}")
    status = workload.status
    if attempt != status.attempt:
        raise Conflict(f"attempt {attempt} of job {name} is over or yet to come: it is at {status.attempt}")
    return _Session(job, context.fabric, status.ranks[0].node, workload.metadata.uid, attempt)


async def _to_write(
    request: Request, name: str, caller: FromCaller, attempt: FromAttempt, project: FromProject = None
) -> _Session:
    """For whoever may write the job; what is written into it stands in no audit log."""
    session = await _session_of(context_of(request), caller, name, project, attempt, "write")
    exchange_of(request.scope).in_session = True
    return session


async def _to_read(
    request: Request, name: str, caller: FromCaller, attempt: FromAttempt, project: FromProject = None
) -> _Session:
    return await _session_of(context_of(request), caller, name, project, attempt, "read")


ToWrite = Annotated[_Session, Depends(_to_write)]
ToRead = Annotated[_Session, Depends(_to_read)]
BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


async def _piece(request: Request) -> bytes:
    """The body. Raises ``TooLarge``."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > PIECE_BYTES:
            raise TooLarge(f"at most {format_bytes(PIECE_BYTES)} go into a session at a time")
    return bytes(data)


async def _if_still_allowed(
    request: Request, job: Job, verb: Verb, answering: Awaitable[SessionAnswer]
) -> SessionAnswer:
    """The answer, for whoever may have it by then. Raises ``Unauthenticated``, ``Forbidden`` or
    ``NotFound``."""
    context = context_of(request)
    asked_seconds = context.clock.monotonic_seconds()
    answer = await answering
    if context.clock.monotonic_seconds() - asked_seconds >= ANEW_SECONDS:
        caller = await authenticate(request.headers, context.directories, context.clock)
        caller.require("Job", verb)
        if not caller.sees(job, verb):
            raise caller.hidden("Job", job.name, job.project)
    return answer


def _answered(answer: SessionAnswer) -> Response:
    headers = {NEXT_OFFSET: str(answer.number), ENDED: "true" if answer.ended else "false"}
    return Response(answer.data, media_type="application/octet-stream", headers=headers)


@router.post(
    "/{name}/input",
    status_code=204,
    summary="Type into a job's terminal",
    openapi_extra={"requestBody": {**BYTES, "required": True}},
)
async def post_input(
    request: Request,
    caller: FromCaller,
    session: ToWrite,
    writer: Annotated[str, Query(pattern=WRITER_PATTERN, description="whose input it is, by any name")],
    number: Annotated[
        int, Query(ge=1, le=MAX_NUMBER, description="from 1 on; what came with it before is typed once")
    ],
) -> None:
    if number == 1:
        exchange_of(request.scope).in_session = False  # who begins to type is kept
    await session.ask(Typed(await _piece(request), f"{caller.principal.key}/{writer}", number))


@router.post("/{name}/window", status_code=204, summary="Say how large the window of a job's terminal is")
async def post_window(
    session: ToWrite,
    rows: Annotated[int, Query(ge=1, le=MAX_SIDE)],
    columns: Annotated[int, Query(ge=1, le=MAX_SIDE)],
) -> None:
    await session.ask(Resized(rows, columns))


@router.get(
    "/{name}/output",
    response_class=Response,
    responses={200: {**BYTES, "description": f"bytes; {NEXT_OFFSET} and {ENDED} say how it goes on"}},
    summary="What a job's terminal shows, as soon as there is more",
)
async def get_output(request: Request, session: ToRead, offset: FromOffset = 0) -> Response:
    printed = session.printed(offset)
    return _answered(await _if_still_allowed(request, session.job, "read", printed))


@router.post("/{name}/connections", summary="Connect to a port that a job listens on within its cell")
async def post_connection(request: Request, session: ToWrite, port: Port) -> Connected:
    exchange_of(request.scope).in_session = False
    return Connected(connection=(await session.ask(Opened(port))).number)


Connection = Annotated[int, Query(ge=1, le=LAST_CONNECTION)]


@router.post(
    "/{name}/connections/sent",
    status_code=204,
    summary="Send bytes to a port of a job",
    openapi_extra={"requestBody": {**BYTES, "required": True}},
)
async def post_sent(
    request: Request,
    session: ToWrite,
    connection: Connection,
    offset: FromOffset,
    end: Annotated[bool, Query(description="nothing follows")] = False,
) -> None:
    await session.ask(Sent(connection, offset, await _piece(request), end))


@router.post(
    "/{name}/connections/received",
    response_class=Response,
    responses={200: {**BYTES, "description": f"bytes; {NEXT_OFFSET} and {ENDED} say how it goes on"}},
    summary="What a port of a job answers, as soon as there is more",
)
async def post_received(
    request: Request, session: ToWrite, connection: Connection, offset: FromOffset
) -> Response:
    received = session.ask(ReceivedFrom(connection, offset))
    return _answered(await _if_still_allowed(request, session.job, "write", received))


@router.delete("/{name}/connections", status_code=204, summary="Close a connection to a port of a job")
async def delete_connection(session: ToWrite, connection: Connection) -> None:
    await session.ask(Closed(connection))
