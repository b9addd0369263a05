"""One stream, from its engine to its client; when the engine breaks, another one goes on where it can.

The client sees one answer and pays for one: the prompt once, and the tokens that it was given.
"""

from __future__ import annotations

from dataclasses import replace

from common.clock import Clock
from common.errors import ComputilityError, EngineFailed
from common.http_server.front import UNBUFFERED
from common.settings import GatewaySettings
from common.telemetry import get_logger
from common.wire import Route, RouteReplica
from inference.core.body import engine_body
from inference.core.continuation import continued_body
from inference.core.delivered import BreakPoint, Delivered
from inference.core.engine_errors import (
    error_in_stream,
    is_retryable,
    may_be_the_request,
    status_in_stream,
)
from inference.core.seam import NOTE, Seam, missing_usage, told_with_role
from inference.core.sse import StreamMeter
from inference.gateway import metrics
from inference.gateway.books.bill import Bill, Job
from inference.gateway.control_link.routes import RouteFollower
from inference.gateway.engines.legs import Answering, Legs
from inference.gateway.engines.upstream import (
    MAX_FAILED_ENGINES,
    ClientWatch,
    EngineCall,
    StreamBroke,
    Upstream,
)
from inference.gateway.exchange import Exchange

STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), *UNBUFFERED]
_KINDS = {"chat": "chat.completion.chunk", "completions": "text_completion"}
_log = get_logger("gateway.streaming")


async def write(exchange: Exchange, data: bytes) -> None:
    """A part of the stream, with the head before the first one."""
    if not exchange.started:
        await exchange.start(200, STREAM_HEADERS)
    await exchange.write(data)


class Streams:
    """What streams need to be continued."""

    def __init__(
        self,
        settings: GatewaySettings,
        routes: RouteFollower,
        upstream: Upstream,
        legs: Legs,
        clock: Clock,
    ) -> None:
        self.upstream = upstream
        self.legs = legs
        self.most = settings.continuations_per_stream
        self._most_bytes = settings.continuation_bytes_per_stream
        self._routes = routes
        self._clock = clock

    def record(self, job: Job, answering: Answering) -> Delivered | None:
        """What is kept of the answer in case that its engine breaks; None where none could go on.

        The body is held as long as the stream: it counts with what is kept, or goes on to count as a body.
        """
        size = len(job.request.rest)
        if job.request.continuable is None or not answering.tells_tokens or not job.ticket.take_record(size):
            return None
        job.ticket.drop_bytes()
        ticket, most_bytes = job.ticket, self._most_bytes - size
        return Delivered(job.request.continuable, most_bytes, ticket.take_record, ticket.drop_record)

    def route_now(self, job: Job) -> Route | None:
        """The route as it is by now; None where the key may not use it any more."""
        index = self._routes.index
        try:
            key = index.in_force(job.ticket.key.digest, self._clock.now_ms())
            route: Route | None
            if job.passage is not None:
                route = index.candidate(job.route.project, job.route.model)
            else:
                route = index.find(key.principal, job.request.model)
        except ComputilityError:
            return None
        if route is None:
            return None
        return route if route.backend_model == job.route.backend_model else None


class Stream:
    """One that has begun. ``call`` is what it comes from by now."""

    def __init__(
        self,
        streams: Streams,
        job: Job,
        meter: StreamMeter,
        bill: Bill,
        watch: ClientWatch,
        answering: Answering,
    ) -> None:
        self.call = answering.call
        self._streams = streams
        self._job = job
        self._meter = meter
        self._bill = bill
        self._watch = watch
        self._broken: set[str] = set()
        self._made = 0
        """What had been made when an engine broke last."""
        meter.cached, meter.record = answering.cached, streams.record(job, answering)

    @property
    def broke(self) -> bool:
        """Whether an engine broke on it, whatever came of that."""
        return bool(self._broken)

    async def forward(self) -> None:
        """Pass it on to its end, or to where no engine goes on."""
        while not await self._pass_on() and await self._goes_on():
            pass

    async def _pass_on(self) -> bool:
        """Pass the engine's stream on as it comes, each part once it is noted; when the client has gone, only
        count. False when it broke off."""
        job, meter, watch = self._job, self._meter, self._watch
        try:
            async for data in self.call.chunks():
                events = meter.feed(data)
                self._bill.note(meter.counts)
                if job.trace is not None:
                    job.trace.saw(events)
                if events and not watch.gone:
                    await write(job.exchange, events)
        except StreamBroke as error:
            _log.warning("a stream broke", model=job.route.model, error=str(error))
            if meter.error is None:
                self._streams.upstream.broke(self.call.replica)
        except EngineFailed as error:
            if not self._broken:
                raise
            _log.warning("a stream was not continued", replica=self.call.replica.id, why=error.message)
            self._count("differs")
            raise error_in_stream(None, job.request.input_field) from error
        else:
            if meter.finished and meter.error is None:
                self._streams.upstream.ended_well(self.call.replica)
        if meter.error is not None:
            self.call.trouble = "engine_error"
        elif not (meter.finished or watch.gone or self.call.trouble):
            self.call.trouble = "ended_early"
        return meter.finished and meter.error is None

    async def _goes_on(self) -> bool:
        """Have another engine go on; False where none does, or none need."""
        meter = self._meter
        if self._watch.gone:
            return False
        if meter.total_told:
            if meter.error is None:
                meter.finished = True
                self._count("whole")
            return False
        point = meter.record.break_point() if meter.record is not None else None
        if point is not None and point.whole:
            await self._end(point)
            return False
        if not await self._is_its_fault() or not self._may_try_another():
            return False
        asked = self._asked(point)
        if asked is None:
            self._count("refused")
            return False
        return await self._follow(*asked, point)

    async def _end(self, point: BreakPoint) -> None:
        """Only the end was missing: the client has all of the answer."""
        model = self._job.route.backend_model
        last = self._meter.end(missing_usage(point, _KINDS[self._job.request.task], model))
        self._count("whole")
        if last:
            await write(self._job.exchange, last)

    async def _is_its_fault(self) -> bool:
        """Whether the engine broke of itself, and not of what this request asks. An error that it told is
        held against it only then.
        """
        if self._meter.error is None:
            return True
        status = status_in_stream(self._meter.error)
        if status is not None and not is_retryable(status):
            return False
        if may_be_the_request(status or 0) and await self.call.is_healthy():
            return False
        self._streams.upstream.broke(self.call.replica)
        return True

    def _may_try_another(self) -> bool:
        """Whether the bound allows it. What broke two engines at the same place may be what breaks them."""
        made = self._meter.counts.completion
        self._watch.broken = 1 if made > self._made else self._watch.broken + 1
        self._made = made
        self._broken.add(self.call.replica.url)
        return len(self._broken) <= self._streams.most and self._watch.broken < MAX_FAILED_ENGINES

    def _asked(self, point: BreakPoint | None) -> tuple[bytes, Seam | None] | None:
        """What another engine is asked, and how its events follow; None where none can go on."""
        job, meter = self._job, self._meter
        request, model, seam = job.request, job.route.backend_model, None
        if meter.passed and point is not None:
            body = continued_body(request, model, job.tenant, point)
            return (body, Seam(point.id, point.created, point)) if body is not None else None
        if meter.passed:
            role = told_with_role(meter.first) if meter.passed == 1 and request.api == "chat" else None
            if role is None or request.sequences > 1:
                return None
            seam = Seam(*role)
        tokens = meter.record is not None
        return engine_body(request, model, job.tenant, tokens=tokens, id_=self._watch.id), seam

    async def _follow(self, body: bytes, seam: Seam | None, point: BreakPoint | None) -> bool:
        """Ask another engine of the same kind; False when there is none."""
        meter, watch = self._meter, self._watch
        call = await self._call(body)
        if call is None:
            self._count("no_engine")
            return False
        self.call.close()
        self.call = call
        self._count("went_on" if seam is not None else "anew")
        if point is None:
            meter.cached = None  # the prompt is read anew, too
        if seam is None:
            meter.start_over()
            return True
        if meter.counts.completion and meter.passed:
            self._bill.goes_on(call.replica)
        meter.go_on(seam, point)
        if not watch.gone:
            await write(self._job.exchange, NOTE)
        return True

    async def _call(self, body: bytes) -> EngineCall | None:
        route = self._streams.route_now(self._job)
        if route is None:
            return None
        others = {replica.url for replica in route.replicas if _kin(replica) != _kin(self.call.replica)}
        job, tried = replace(self._job, route=route), others | self._broken
        try:
            return await self._streams.legs.go_on(job, self._watch, body, self._begin, tried)
        except ComputilityError as error:
            # its words may quote what the client sent
            _log.warning("a stream was not continued", model=route.model, why=error.code)
            return None

    def _begin(self, replica: RouteReplica) -> None:
        """The bill is that of the engine that made the first tokens, as soon as the client was given some."""
        if not self._meter.counts.completion or not self._meter.passed:
            self._bill.begin(replica)

    def _count(self, outcome: str) -> None:
        metrics.CONTINUED.labels(metrics.MODELS.of(self._job.route.model), outcome).inc()
        if self._job.trace is not None:
            self._job.trace.note(f"stream_broke.{outcome}")


def _kin(replica: RouteReplica) -> tuple[str, bool]:
    """Engines that go on with each other's answers run the same Model, on the same side of a trial."""
    return replica.model_identity, replica.role == "canary"
