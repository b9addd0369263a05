"""One batch under way: its lines are asked for, some at a time, until each has an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from batches import metrics
from batches.core.answer import Again, Answer, Final, failed, judge, pause_seconds, result_line
from batches.core.line import LineRequest, read_request
from batches.gateway_link import GatewayLink
from batches.requests import lines_of, result_id, usage_id
from batches.running.keeping import EventPoster, OutcomeKeeper
from batches.running.places import Places
from billing.core.events import UsageEvent
from common.batch_line import LineTold, event_id
from common.clock import Clock
from common.errors import DATABASE_UNAVAILABLE, InvalidInput, Unavailable
from common.resources import Batch
from common.settings.batches import BatchSettings
from common.store.batch_lines import BatchLines, LineOutcome
from common.strict_json import parse_json
from common.telemetry import get_logger
from finetune.core.lines import Line

POST_SECONDS = 1.0
Sleep = Callable[[float], Awaitable[None]]
_log = get_logger("batches")


@dataclass(frozen=True)
class RunParts:
    """What all runs share."""

    lines: BatchLines
    link: GatewayLink
    places: Places
    poster: EventPoster
    settings: BatchSettings
    clock: Clock
    sleep: Sleep = asyncio.sleep


class BatchRun:
    """Asks for the lines that have no outcome yet. ``why``: what keeps it waiting; empty while it goes on."""

    def __init__(self, batch: Batch, path: Path, digest: str, parts: RunParts) -> None:
        self._batch, self._path, self._digest, self._parts = batch, path, digest, parts
        self._uid, self._project = batch.metadata.uid, batch.project or ""
        self._keeper = OutcomeKeeper(parts.lines, self._uid, self._project)
        self._lines: Iterator[Line] = iter(())
        self._posting = asyncio.Lock()
        self._refusals = 0
        self._open_at_seconds = 0.0
        self.why = ""

    async def run(self) -> None:
        """Return when each line has an outcome and all events are posted. Raises ``Unavailable`` where this
        process may write no more; to cancel it loses nothing that is kept."""
        done = await self._parts.lines.done(self._uid)
        lines = lines_of(self._path, self._parts.settings.max_line_bytes)
        self._lines = (line for line in lines if line.number not in done)
        async with asyncio.TaskGroup() as group:
            posting = group.create_task(self._post())
            workers = [
                group.create_task(self._work()) for _ in range(self._parts.settings.lines_at_once_per_batch)
            ]
            await asyncio.gather(*workers)
            async with self._posting:  # it is given up between two posts, never with a transaction open
                posting.cancel()
        await self._parts.poster.post(self._uid)

    async def _post(self) -> None:
        while True:
            await self._parts.sleep(POST_SECONDS)
            try:
                async with self._posting:
                    await self._parts.poster.post(self._uid)
            except Unavailable as error:  # events stay where they are, and are posted later
                if error.code != DATABASE_UNAVAILABLE:
                    raise

    async def _work(self) -> None:
        for line in self._lines:
            await self._keeper.keep(await self._outcome(line))

    async def _outcome(self, line: Line) -> LineOutcome:
        if line.content is None:
            return self._ended(
                line.number, LineRequest("", b""), failed("line_too_long", "the line is too long")
            )
        request, tries = read_request(line.content), 0
        while True:
            answer = await self._answer(line.number, request)
            verdict = judge(answer, tries + 1, self._parts.settings.tries_per_line)
            if isinstance(verdict, Final):
                self._refusals, self.why = 0, ""
                return self._ended(line.number, request, verdict, answer)
            tries += verdict.counts
            self._refused(verdict)

    async def _answer(self, number: int, request: LineRequest) -> Answer | None:
        while (wait_seconds := self._open_at_seconds - self._parts.clock.monotonic_seconds()) > 0:
            await self._parts.sleep(wait_seconds)
        told = LineTold(usage_id(self._uid, number), self._digest)
        async with self._parts.places.one(self._project):
            with metrics.UNDER_WAY.track_inprogress():
                path = self._batch.spec.endpoint
                return await self._parts.link.ask(path, told, request.body, result_id(self._uid, number))

    def _refused(self, again: Again) -> None:
        """The whole batch waits: what refuses one line now refuses the next one too. Those that were under
        way beside it count as one."""
        metrics.AGAIN.inc()
        now = self._parts.clock.monotonic_seconds()
        if now >= self._open_at_seconds:
            self._refusals += 1
            self._open_at_seconds = now + pause_seconds(self._refusals, again.after_seconds)
        self.why = again.why

    def _ended(
        self, number: int, request: LineRequest, end: Final, answer: Answer | None = None
    ) -> LineOutcome:
        content = result_line(result_id(self._uid, number), request.custom_id, end)
        events = self._events(number, answer)
        tokens = (
            sum(event.quantity(meter) for event in events)
            for meter in ("prompt_tokens", "cached_tokens", "completion_tokens")
        )
        kept = f"[{','.join(event.canonical() for event in events)}]" if events else ""
        return LineOutcome(number, end.is_good, content, kept, *tokens)

    def _events(self, number: int, answer: Answer | None) -> list[UsageEvent]:
        """What the line is billed by; none where nothing was used."""
        if answer is None or not answer.event:
            return []
        try:
            told = parse_json(answer.event, "the usage of a line")
            events = [UsageEvent.from_dict(one) for one in (told if isinstance(told, list) else [told])]
        except InvalidInput as error:
            _log.error("a gateway tells usage that is none", batch=self._batch.name, error=error.message)
            return []
        ids = [event_id(usage_id(self._uid, number), place) for place in range(1, len(events) + 1)]
        if [event.id for event in events] != ids:
            _log.error("a gateway tells the usage of another line", batch=self._batch.name, line=number)
            return []
        return events
