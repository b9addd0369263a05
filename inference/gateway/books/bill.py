"""What one request owes: noted in the journal while it runs, in the spool before it ends.

Where the disk has no room for the spool, the journal, whose room was taken before the engine was asked, keeps
the final counts; they are spooled as soon as there is room again, and until then nothing new is begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from billing.core.events import UsageEvent
from common.auth import Principal
from common.batch_line import BATCH_TIER, LineTold, tell_usage, told_id
from common.clock import Clock
from common.errors import NO_ROOM, Forbidden, InvalidInput, Unavailable
from common.ids import new_id
from common.records import record
from common.telemetry import get_logger
from common.wire import Route, RouteReplica
from inference.core.body import InferenceRequest
from inference.core.usage import TokenCounts
from inference.gateway import metrics
from inference.gateway.admission import Ticket
from inference.gateway.books.aside import set_aside
from inference.gateway.books.journal import LOST_OUTCOME, Entry, Journal
from inference.gateway.books.spool import Spool
from inference.gateway.exchange import Exchange

if TYPE_CHECKING:
    from inference.gateway.one_door.passage import Passage
    from inference.gateway.tracing.request import RequestTrace

OVERDUE_SECONDS = 1.0
"""Between two tries to spool what the disk had no room for."""
NOT_BILLABLE = "usage_not_billable"
"""The code of a request that no usage event can be made for."""

_KNOWN_NAMES = 1024
_CANNOT_RECORD = "usage cannot be recorded right now; try again"
Outcome = Literal["completed", "cancelled", "engine_failed"]
_log = get_logger("gateway.bill")


@record(frozen=True)
class Job:
    """One request on its way: who, what, where to, who pays, since when. ``trace``: None where it has none,
    as a copy. ``line``: of the batch that it is of; None = of none. ``passage``: how it came there, where
    that was not by the name of an own model."""

    exchange: Exchange
    ticket: Ticket
    request: InferenceRequest
    principal: Principal
    route: Route
    tenant: str
    project: str
    started_ms: int
    started_seconds: float
    trace: RequestTrace | None = None
    line: LineTold | None = None
    passage: Passage | None = None


@dataclass
class Books:
    """Where usage is written."""

    spool: Spool
    journal: Journal
    clock: Clock
    overdue: set[asyncio.Task[None]] = field(default_factory=set)
    """Events of ended requests that wait for room on the disk; the journal has them all."""
    late_seconds: float = float("-inf")
    """When the last of them was spooled, in monotonic seconds."""

    def settled_before(self, shipped_before: float) -> float:
        """Before which moment all that was settled is posted, where all is that was spooled before
        ``shipped_before``: never, where some waits for room, or came into the spool after that."""
        is_late = bool(self.overdue) or self.late_seconds >= shipped_before
        return float("-inf") if is_late else shipped_before

    def spool_later(self, event: UsageEvent, entry: Entry) -> None:
        """Spool the event when there is room, and then free its slot."""
        task = asyncio.create_task(self._when_there_is_room(event, entry))
        self.overdue.add(task)
        task.add_done_callback(self.overdue.discard)

    async def _when_there_is_room(self, event: UsageEvent, entry: Entry) -> None:
        while True:
            await asyncio.sleep(OVERDUE_SECONDS)
            try:
                await self.spool.append(event, entry.free)
            except Unavailable:
                continue
            self.late_seconds = self.clock.monotonic_seconds()
            metrics.count_billed(event)
            return

    async def close(self) -> None:
        """What is overdue stays in the journal, for the next gateway."""
        for task in self.overdue:
            task.cancel()
        await asyncio.gather(*self.overdue, return_exceptions=True)


class Bill:
    """The bill of one job, made before an engine is asked: what could not be billed is not served.

    As a context manager it gives its place in the journal back where nothing was settled. ``spent`` is told
    what is billed.
    """

    def __init__(self, books: Books, job: Job, spent: Callable[[TokenCounts], None] | None = None) -> None:
        self._books = books
        self._job = job
        self._id = new_id("use", books.clock) if job.line is None else told_id(job.line, job.exchange.head)
        self._spent = spent
        self._noted = TokenCounts()
        self._event: UsageEvent | None = None
        self._entry: Entry | None = None
        self._reader = ""
        self._others: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def begin(self, replica: RouteReplica) -> None:
        """Make and check the event of what ``replica`` is going to be asked, and take a slot of the journal.
        To be called before each replica.

        Raises ``Forbidden`` when no event can be made, ``Unavailable`` when the disk has no room for it.
        """
        self._close()
        self._noted = TokenCounts()
        if replica.role == "prefill":
            self._reader = replica.id
        if self._books.overdue:
            raise Unavailable(_CANNOT_RECORD, code=NO_ROOM)
        try:
            self._event = self._made(replica)
            if self._job.line is None:
                self._entry = self._books.journal.open(self._event)
        except InvalidInput as error:
            _log.error("a request could not be billed", model=self._job.route.model, error=error.message)
            raise Forbidden(
                f"what this request uses could not be billed, so it is not served ({error.message}); "
                f"an administrator has to give the key, project or model another name",
                code=NOT_BILLABLE,
            ) from error
        except OSError as error:
            _log.error("the journal takes no more", error=str(error))
            raise Unavailable(_CANNOT_RECORD, code=NO_ROOM) from error

    def goes_on(self, replica: RouteReplica) -> None:
        """Another engine goes on with the answer; the bill stays that of the first one."""
        self._others.append(replica.id)

    def note(self, counts: TokenCounts) -> None:
        """Before the client is sent what it was counted for: keep the count for the case of sudden death.

        A prompt counts with the first token made from it.
        """
        if self._entry is None or counts == self._noted or not counts.completion:
            return
        self._entry.note(counts, self._books.clock.now_ms())
        self._noted = counts

    async def settle(self, counts: TokenCounts, outcome: Outcome) -> None:
        """Make the usage durable, in the spool or, while that is refused, in the journal. Nothing used,
        nothing billed. Raises ``Unavailable`` when the disk takes neither: then what the journal holds is
        billed by the next gateway.

        A prompt counts, for engine and bill alike, with the first token made from it. Counts that make no
        event are set aside with their reason: the client has no part in them.
        """
        if self._job.trace is not None:
            self._job.trace.settled(counts, outcome)
        quantities = counts.quantities()
        unborn = outcome != "completed" and not counts.completion and self._job.request.task != "embeddings"
        if not quantities or unborn or self._event is None:
            self._close()
            return
        if self._spent is not None:
            self._spent(counts)
        ended_ms = max(self._books.clock.now_ms(), self._job.started_ms)
        try:
            event = self._shared(self._event.ended(outcome, ended_ms, quantities))
        except InvalidInput as error:
            ended = {"outcome": outcome, "ended_ms": ended_ms, "quantities": quantities}
            await self._set_aside({**self._event.to_dict(), **ended}, error.message)
            return
        if self._job.line is not None:  # whoever asked keeps it together with the answer, and posts it
            tell_usage(self._job.exchange.head, event.canonical())
            return
        await self._spool(event, counts)

    async def _spool(self, event: UsageEvent, counts: TokenCounts) -> None:
        entry, self._entry = self._entry, None  # freed once the event is durable, whatever ends this request
        assert entry is not None
        entry.note(counts, event.ended_ms)
        try:
            await self._books.spool.append(event, entry.free)
            metrics.count_billed(event)
        except Unavailable:
            self._books.spool_later(event, entry)
            try:
                entry.sync()
            except OSError as error:
                _log.error("the journal cannot be synced", error=str(error))
                raise Unavailable(_CANNOT_RECORD, code=NO_ROOM) from error

    def _shared(self, event: UsageEvent) -> UsageEvent:
        """The event with the other engines that had a part in the work, where their names find room in it."""
        reader = self._reader if self._reader != event.resource else ""
        if not reader and not self._others and self._job.passage is None:
            return event
        others = {"read_by": reader, "continued_by": " ".join(self._others)}
        if self._job.passage is not None:
            others |= self._job.passage.labels_at_the_end()
        labels = {name: engines for name, engines in others.items() if engines}
        try:
            return replace(event, labels={**event.labels, **labels})
        except InvalidInput as error:
            _log.warning("an event does not name all of its engines", event_id=event.id, error=error.message)
            return event

    def _made(self, replica: RouteReplica) -> UsageEvent:
        """The event as of now, without numbers. It says how often the engine counts a prompt, and how many
        answers it makes, where that is not once and one."""
        job, request = self._job, self._job.request
        labels = {"task": request.task, "request_id": job.exchange.request_id}
        if request.choices_per_prompt > 1:
            labels["choices"] = str(request.choices_per_prompt)
        if request.prompts > 1:
            labels["prompts"] = str(request.prompts)
        if job.passage is not None:
            labels |= job.passage.labels_at_first()
        route = job.route
        names = _names(
            (job.tenant, job.project, job.principal.key),
            (route.model, route.base_model, route.adapter_identity),
            (replica.id, replica.endpoint, replica.device_class),
            replica.model_identity,
            replica.model_shared,
        )
        event = names.begun(self._id, job.started_ms, labels, request.user, request.tags)
        return event if job.line is None else replace(event, service_tier=BATCH_TIER)

    async def _set_aside(self, content: dict[str, Any], reason: str) -> None:
        try:
            await set_aside(self._books.spool.folder, [(content, reason)])
        except OSError as error:
            _log.error("usage cannot be set aside", error=str(error))
            raise Unavailable(_CANNOT_RECORD, code=NO_ROOM) from error
        self._close()

    def _close(self) -> None:
        if self._entry is not None:
            self._entry.free()
            self._entry = None


@lru_cache(maxsize=_KNOWN_NAMES)
def _names(
    payer: tuple[str, str, str],
    asked: tuple[str, str, str],
    engine: tuple[str, str, str],
    model_identity: str,
    model_shared: bool,
) -> UsageEvent:
    """An event with the names of all of a key's at an engine, which are looked at once. Raises
    ``InvalidInput``."""
    tenant, project, key = payer
    model, base_model, adapter_identity = asked
    resource, endpoint, device_class = engine
    return UsageEvent(
        id="use",
        kind="inference",
        tenant=tenant,
        project=project,
        key=key,
        model=model,
        base_model=base_model,
        model_identity=model_identity,
        model_shared=model_shared,
        device_class=device_class,
        resource=resource,
        outcome=LOST_OUTCOME,
        started_ms=0,
        ended_ms=0,
        quantities={},
        endpoint=endpoint,
        adapter_identity=adapter_identity,
    )
