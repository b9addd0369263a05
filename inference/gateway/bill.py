"""What one request owes: noted in the journal while it streams, in the spool before it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from billing.core.events import UsageEvent
from common.auth import Principal
from common.clock import Clock
from common.errors import InvalidInput
from common.ids import new_id
from common.telemetry import get_logger
from common.wire import Route, RouteReplica
from inference.core.body import InferenceRequest
from inference.core.usage import TokenCounts
from inference.gateway import metrics
from inference.gateway.exchange import Exchange
from inference.gateway.journal import LOST_OUTCOME, Entry, Journal
from inference.gateway.spool import Spool

Outcome = Literal["completed", "cancelled", "engine_failed"]
_log = get_logger("gateway.bill")


@dataclass(frozen=True)
class Job:
    """One request on its way: who, what, where to, who pays, since when."""

    exchange: Exchange
    request: InferenceRequest
    principal: Principal
    route: Route
    tenant: str
    project: str
    started_ms: int
    started_seconds: float


@dataclass(frozen=True)
class Books:
    """Where usage is written."""

    spool: Spool
    journal: Journal
    clock: Clock


class Bill:
    """The bill of one job that ``replica`` works on."""

    def __init__(self, books: Books, job: Job, replica: RouteReplica) -> None:
        self._books = books
        self._job = job
        self.replica = replica
        self._id = new_id("use", books.clock)
        self._noted = TokenCounts()
        self._entry: Entry | None = None
        self._keeps_journal = True

    def note(self, counts: TokenCounts) -> None:
        """Before the client is sent what it was counted for: keep the count for the case of sudden death.

        A prompt counts with the first token made from it.
        """
        if counts == self._noted or not counts.completion or not self._keeps_journal:
            return
        if self._entry is None:
            self._entry = self._open()
        if self._entry is not None:
            self._entry.note(counts, self._books.clock.now_ms())
        self._noted = counts

    async def settle(self, counts: TokenCounts, outcome: Outcome) -> None:
        """Make the usage durable. Nothing used, nothing billed. Raises ``Unavailable`` when the disk refuses:
        then what the journal holds is billed by the next gateway.

        A prompt counts, for engine and bill alike, with the first token made from it.
        """
        quantities = counts.quantities()
        unborn = outcome == "cancelled" and counts.completion == 0 and self._job.request.task != "embeddings"
        if not quantities or unborn:
            self._close()
            return
        event = self._event(quantities, outcome)
        await self._books.spool.append(event, self._close)
        metrics.count_billed(event)

    def _event(self, quantities: Mapping[str, int], outcome: str) -> UsageEvent:
        """The event as of now."""
        job = self._job
        return UsageEvent(
            id=self._id,
            kind="inference",
            tenant=job.tenant,
            project=job.project,
            key=job.principal.key,
            model=job.route.model,
            base_model=job.route.base_model,
            model_identity=self.replica.model_identity,
            model_shared=self.replica.model_shared,
            device_class=self.replica.device_class,
            resource=self.replica.id,
            outcome=outcome,
            started_ms=job.started_ms,
            ended_ms=max(self._books.clock.now_ms(), job.started_ms),
            quantities=quantities,
            labels={"task": job.request.task, "request_id": job.exchange.request_id},
        )

    def _open(self) -> Entry | None:
        """A slot of the journal; None where it cannot be had, which is told in the log once per request."""
        try:
            return self._books.journal.open(self._event({}, LOST_OUTCOME))
        except (OSError, InvalidInput) as error:
            self._keeps_journal = False
            _log.error("a request is not in the journal", model=self._job.route.model, error=str(error))
            return None

    def _close(self) -> None:
        if self._entry is not None:
            self._entry.free()
            self._entry = None
