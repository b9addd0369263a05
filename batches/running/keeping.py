"""Outcomes of lines, made durable, and their usage events, posted."""

from __future__ import annotations

import asyncio
import json

from batches import metrics
from billing.core.events import UsageEvent
from billing.core.sink import UsageSink
from billing.rejected import RejectedUsage
from common.errors import DATABASE_UNAVAILABLE, InvalidInput, Unavailable
from common.store.batch_lines import BatchLines, LineOutcome
from common.telemetry import get_logger

POSTED_AT_ONCE = 500
DATABASE_PAUSE_SECONDS = 1.0
_log = get_logger("batches")


class OutcomeKeeper:
    """The outcomes of one batch: who has one at the same time has it written together."""

    def __init__(self, lines: BatchLines, batch: str, project: str) -> None:
        self._lines, self._batch, self._project = lines, batch, project
        self._pending: list[LineOutcome] = []
        self._turn = asyncio.Lock()

    async def keep(self, outcome: LineOutcome) -> None:
        """It is durable when this returns. A database that is away is waited for; raises ``Unavailable``
        where this process may write no more."""
        self._pending.append(outcome)
        async with self._turn:
            while self._pending:
                taken = tuple(self._pending)
                try:
                    await self._lines.keep(self._batch, self._project, taken)
                except Unavailable as error:
                    if error.code != DATABASE_UNAVAILABLE:
                        raise
                    await asyncio.sleep(DATABASE_PAUSE_SECONDS)
                    continue
                del self._pending[: len(taken)]
                metrics.count_lines(taken)


class EventPoster:
    """Posts usage events of kept outcomes. Each may be posted again: an id counts once."""

    def __init__(self, lines: BatchLines, usage: UsageSink, rejected: RejectedUsage) -> None:
        self._lines, self._usage, self._rejected = lines, usage, rejected

    async def post(self, batch: str) -> None:
        """Return when the ledger has all events of the batch. Raises ``Unavailable``."""
        while waiting := await self._lines.unposted(batch, POSTED_AT_ONCE):
            events: list[UsageEvent] = []
            for text in waiting.values():
                try:
                    events += [UsageEvent.from_dict(one) for one in json.loads(text)]
                except (InvalidInput, ValueError) as error:
                    await self._rejected.keep({"kind": "inference", "text": text}, str(error))
            reasons = (await self._usage.post(events)).reasons
            for event in events:
                if event.id in reasons:
                    await self._rejected.keep(event.to_dict(), reasons[event.id])
            await self._lines.posted(batch, list(waiting))
