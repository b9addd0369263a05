"""Views of one workload: why it is where it is, and what its processes print."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse

from common.errors import InvalidInput, NotFound, Unavailable
from common.log_times import offset_at
from common.resources import Workload
from common.vocabulary import MAX_NUMBER
from control.admission.access import Caller
from control.api.errors import ERROR_RESPONSES
from control.api.log_lines import Stamps, after_line_end, require_times
from control.api.requests import KEY_REQUIRED, FromCaller, context_of
from control.api.writes import visible_resource
from control.context import ControlContext
from control.core.advice import for_reader
from scheduler.insight.answers import Explanation
from scheduler.ports import Fabric, LogChunk

CHUNK_BYTES = 256 * 1024
MAX_TAIL_BYTES = 8 * 1024 * 1024
FOLLOW_SECONDS = 0.5
ENDED = frozenset(("Exited", "Lost"))

router = APIRouter(
    prefix="/api/v1/workloads", tags=["workloads"], dependencies=KEY_REQUIRED, responses=ERROR_RESPONSES
)
FromProject = Annotated[str | None, Query(description="unset = the project of the key, if it has one")]


@router.get(
    "/{name}/explain",
    response_model=Explanation,
    summary="Why a workload is where it is, or what it waits for and until when",
)
async def get_explanation(
    request: Request, name: str, caller: FromCaller, project: FromProject = None
) -> JSONResponse:
    context = context_of(request)
    workload = await _workload(context, caller, name, project)
    explanation = await context.insight.explain(name, workload.project or "")
    if not caller.sees_project(explanation.preempted_for.partition("/")[0]):
        explanation.preempted_for = ""
    remedy = for_reader(caller.principal.role, explanation.remedy)
    return JSONResponse({**explanation.to_dict(), "remedy": remedy})


@router.get(
    "/{name}/logs",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "the log"}},
    summary="What one rank printed",
)
async def get_logs(
    request: Request,
    name: str,
    caller: FromCaller,
    project: FromProject = None,
    rank: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
    attempt: Annotated[
        int | None, Query(ge=1, le=MAX_NUMBER, description="unset = the current or last one")
    ] = None,
    follow: Annotated[bool, Query(description="go on until the rank ends")] = False,
    tail_lines: Annotated[
        int | None, Query(ge=0, le=MAX_NUMBER, description="only the last lines; unset = all")
    ] = None,
    since_seconds: Annotated[
        float | None,
        Query(ge=0, le=MAX_NUMBER, description="only what was printed within so long; unset = all"),
    ] = None,
    timestamps: Annotated[
        bool, Query(description="begin each line with the time at which it was printed, to about a second")
    ] = False,
) -> StreamingResponse:
    context = context_of(request)
    workload = await _workload(context, caller, name, project)
    log = _log_of(context, workload, rank, attempt)
    begin = 0
    if timestamps or since_seconds is not None:
        whole = await log.read(0, 0)
        require_times(whole)
        if since_seconds is not None:
            begin = offset_at(whole.times, context.clock.now_ms() - round(1000 * since_seconds))
    first = await log.since(begin)
    if tail_lines is not None:
        last = await log.last_lines(tail_lines)
        first = last if _begin_of(last) >= _begin_of(first) else first
    pieces = _pieces(context, log, first, follow)
    if timestamps:
        pieces = _stamped(context, pieces, Stamps(ended=await _ended(context, log)))
    texts = (chunk.data async for chunk in pieces if chunk.data)
    return StreamingResponse(texts, media_type="text/plain; charset=utf-8")


def _begin_of(chunk: LogChunk) -> int:
    return chunk.next_offset - len(chunk.data)


async def _stamped(
    context: ControlContext, pieces: AsyncIterator[LogChunk], stamps: Stamps
) -> AsyncIterator[LogChunk]:
    async for chunk in pieces:
        yield replace(chunk, data=stamps.put(chunk, context.clock.now_ms()))


async def _workload(context: ControlContext, caller: Caller, name: str, project: str | None) -> Workload:
    caller.require("Workload", "read")
    where = caller.project_for(Workload, project)
    return await visible_resource(context, caller, Workload, name, where)


@dataclass(frozen=True)
class _Log:
    """The log of one rank of one gang."""

    fabric: Fabric
    node: str
    workload: Workload
    attempt: int
    rank: int

    async def read(self, offset_bytes: int, limit_bytes: int = CHUNK_BYTES) -> LogChunk:
        return await self.fabric.read_log(
            self.node,
            self.workload.metadata.uid,
            self.attempt,
            self.rank,
            offset_bytes,
            limit_bytes,
        )

    async def since(self, offset_bytes: int) -> LogChunk:
        """From the first line on that begins there or later."""
        if not offset_bytes:
            return await self.read(0)
        return after_line_end(await self.read(offset_bytes - 1, CHUNK_BYTES + 1))

    async def last_lines(self, count: int) -> LogChunk:
        """The last ``count`` lines, as far as they lie within the last megabytes."""
        taken = CHUNK_BYTES
        while True:
            chunk = await self.read(-taken, taken)
            lines = chunk.data.splitlines(keepends=True)
            if len(lines) > count or taken >= min(chunk.size_bytes, MAX_TAIL_BYTES):
                data = b"".join(lines[-count:]) if count else b""
                return replace(chunk, data=data)
            taken *= 4


def _log_of(context: ControlContext, workload: Workload, rank: int, attempt: int | None) -> _Log:
    if context.fabric is None:
        raise Unavailable("this process reads no logs")
    status = workload.status
    if attempt is not None and attempt > status.attempt:
        raise InvalidInput(f"attempt: there were only {status.attempt} so far", param="attempt")
    placed = next((r for r in status.ranks if r.rank == rank), None)
    if placed is None:
        if not status.ranks:
            explain = f"`computility explain {workload.name}` says what it waits for"
            raise NotFound(f"{workload.key} has not started yet, so it has printed nothing; {explain}")
        last = len(status.ranks) - 1
        ranks = f"the ranks 0 to {last}" if last else "rank 0 alone"
        raise NotFound(f"{workload.key} has no rank {rank}: it has {ranks}")
    return _Log(context.fabric, placed.node, workload, attempt or status.attempt, rank)


async def _pieces(
    context: ControlContext, log: _Log, first: LogChunk, follow: bool
) -> AsyncIterator[LogChunk]:
    chunk = first
    while True:
        if chunk.data:
            yield chunk
        elif chunk.next_offset >= chunk.size_bytes:
            if not follow or context.ending.is_set():
                return
            ended = await _ended(context, log)
            await asyncio.sleep(FOLLOW_SECONDS)
            chunk = await log.read(chunk.next_offset)
            if ended and not chunk.data:
                return
            continue
        chunk = await log.read(chunk.next_offset)


async def _ended(context: ControlContext, log: _Log) -> bool:
    """Whether the rank prints no more."""
    now = await context.store.find(Workload, log.workload.name, log.workload.project)
    if now is None or now.status.attempt != log.attempt or now.metadata.uid != log.workload.metadata.uid:
        return True
    return all(r.state in ENDED for r in now.status.ranks if r.rank == log.rank)
