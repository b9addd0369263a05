"""The inference paths: from the client's request to an engine and back, counted exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from common.batch_line import LINE_HEADER, LineTold, line_told
from common.errors import ComputilityError, EngineFailed, InvalidInput, NotFound
from common.settings import GatewaySettings
from common.telemetry import get_logger
from inference.core.apis.events import EVENTS, EventMeter
from inference.core.apis.wires import WIRES, apis_of, served_by
from inference.core.body import Api, check_context
from inference.core.engine_errors import error_in_stream, may_be_the_request, status_in_stream
from inference.core.sse import StreamMeter
from inference.core.usage import TokenCounts
from inference.gateway import metrics
from inference.gateway.admission import Admission, Ticket
from inference.gateway.answers import counts_of, looked_at, rename, told_of
from inference.gateway.bodies import Bodies
from inference.gateway.books.bill import Bill, Books, Job, Outcome
from inference.gateway.budgets.guard import Asking, BudgetGuard
from inference.gateway.control_link.demand import DemandTeller
from inference.gateway.control_link.routes import RouteFollower
from inference.gateway.control_link.table import payer_of, places_of
from inference.gateway.control_link.tallies import Tallies
from inference.gateway.engines.legs import Answering, Legs
from inference.gateway.engines.shadows import Shadows
from inference.gateway.engines.upstream import (
    DRAIN_SECONDS,
    ClientWatch,
    EngineCall,
    NoEngine,
    OnComments,
    Upstream,
    drop_comments,
)
from inference.gateway.engines.variants import Variants
from inference.gateway.exchange import Exchange
from inference.gateway.guardrails.board import HitBoard
from inference.gateway.guardrails.guarding import guarded
from inference.gateway.learning.thresholds import Thresholds
from inference.gateway.limits.limiter import Limiter, limited
from inference.gateway.one_door.doors import Doors
from inference.gateway.one_door.external import Externals
from inference.gateway.streaming import STREAM_HEADERS, Stream, Streams, write
from inference.gateway.turns import Turns
from inference.gateway.waking import WaitingRoom

if TYPE_CHECKING:
    from inference.gateway.tracing.tracer import RequestTracer

_NOT_TOLD = "the engine's answer tells no token counts, so it is not given out"
_TOO_LARGE = (
    "the answer was made, and is billed, but it is too large to be given out in one piece, by itself or with "
    "others that are on their way: ask for fewer choices, prompts or log probabilities, or for a stream"
)
_LINE = LINE_HEADER.encode()
_log = get_logger("gateway.serve")


class InferenceHandler:
    """Answers POST on the inference paths."""

    def __init__(
        self,
        settings: GatewaySettings,
        routes: RouteFollower,
        upstream: Upstream,
        books: Books,
        demand: DemandTeller,
        tallies: Tallies,
        secret: str,
        limiter: Limiter,
        budgets: BudgetGuard,
        externals: Externals,
        hits: HitBoard,
        media_hosts: Sequence[str] = (),
        tracer: RequestTracer | None = None,
    ) -> None:
        self._routes = routes
        self._upstream = upstream
        self._legs = Legs(upstream, settings)
        self._streams = Streams(settings, routes, upstream, self._legs, books.clock)
        self._variants = Variants(self._legs, tallies, secret)
        self._shadows = Shadows(settings, routes, upstream, books, budgets)
        self._demand = demand
        self._turns = Turns(settings, upstream.reports, demand, books.clock)
        self._waiting_room = WaitingRoom(settings, routes, demand, books.clock)
        self._books, self._clock = books, books.clock
        self._limiter = limiter
        self._budgets, self._externals, self._hits = budgets, externals, hits
        self._bodies = Bodies(settings, media_hosts)
        self._tracer, self._secret = tracer, secret
        self.admission = Admission(settings, routes, books.clock)
        self._doors = Doors(routes, limiter, demand, books.clock, secret, self._hold, self._serve)

    @property
    def thresholds(self) -> Thresholds:
        """What is learned of prompts that are read apart."""
        return self._legs.thresholds

    def routes_changed(self) -> None:
        """There is another table."""
        self._legs.routes_changed(self._routes.index.routes)
        self._variants.routes_changed(self._routes.index.routes)
        self._shadows.routes_changed()
        self._turns.routes_changed()
        self._waiting_room.routes_changed()

    def end_waits(self) -> None:
        """The gateway is about to end: who has no engine yet is told to ask again."""
        self._turns.end()
        self._waiting_room.end()

    async def give_up_copies(self) -> None:
        """Nobody waits for copies of requests that are under way."""
        await self._shadows.close()

    async def close(self) -> None:
        """End the processes that parse bodies, and what is told to engines without a request."""
        await self._turns.close()
        await self._legs.close()
        await self._bodies.close()
        await self._externals.close()
        self._limiter.close()

    async def handle(self, exchange: Exchange, api: Api) -> None:
        started_ms, started_seconds = self._clock.now_ms(), self._clock.monotonic_seconds()
        line = self._line_of(exchange)
        if line is None:
            key = await self._routes.key_of(exchange.credentials())
        else:
            key = await self._routes.key_with(line.digest)
        if self._tracer is not None:
            exchange.trace = self._tracer.inference(exchange, api, key.principal)
        with self.admission.request(key) as ticket:
            job = await self._admit(exchange, api, ticket, started_ms, started_seconds, line)
            if job.route.door is None and job.route.external is None:
                await self._serve(job)
            else:
                await self._doors.serve(job)

    async def _serve(self, job: Job) -> None:
        """Have the model of the job answer it."""
        turn = await self._turns.begin(job)
        sent_seconds = self._clock.monotonic_seconds()
        try:
            with self._demand.working(job.route):
                await (self._stream(job) if job.request.stream else self._answer(job))
        finally:
            if turn is not None:
                self._turns.finish(turn, job.ticket.tokens)
            spent = self._clock.monotonic_seconds() - sent_seconds
            model = metrics.MODELS.of(job.route.model)
            metrics.series(metrics.UPSTREAM_SECONDS, model).observe(spent)

    def _line_of(self, exchange: Exchange) -> LineTold | None:
        """The line of a batch that is asked for; None where it is none. Raises ``Unauthenticated``."""
        value = exchange.headers.get(_LINE)
        if value is None:
            return None
        line = line_told(self._secret, value.decode("latin-1"), self._clock.now_ms())
        exchange.head[_LINE] = line.id.encode()
        return line

    async def _admit(
        self,
        exchange: Exchange,
        api: Api,
        ticket: Ticket,
        started_ms: int,
        started_seconds: float,
        line: LineTold | None,
    ) -> Job:
        """Everything that can be decided without an engine. Raises the client's error."""
        request = await self._bodies.read(exchange, api, ticket, self._routes)
        # The body may have been long in coming.
        key, route = await self._routes.find(ticket.key.digest, request.model)
        principal = key.principal
        exchange.model, trace = route.model, exchange.trace
        if trace is not None:
            trace.serves(route, request)
        is_own = route.door is None and route.external is None
        if is_own and not served_by(api, route.tasks):
            does = ", ".join(apis_of(route.tasks))
            message = f"the model {route.model} does not serve {api}; it serves {does}"
            raise NotFound(message, code="task_not_served", param="model")
        check_context(request, route.context_tokens)
        ticket.take_sequences(request.sequences)
        tenant, project = payer_of(principal, route)
        ticket.places = places_of((tenant, project), route)
        pause = self._routes.index.pause(*ticket.places)
        if pause is not None:
            raise pause
        if trace is not None:
            trace.is_billed_to(tenant, project)
        if self._routes.index.has_limits and line is None:
            whose = list(limited(self._routes.index, principal, route, tenant, project))
            if not is_own:
                whose = [one for one in whose if one.scope != "model"]
            if whose:
                taken = self._limiter.admit(whose, request, exchange.head)
                ticket.release = partial(self._limiter.release, taken)
        if (guards := self._routes.index.guards) is not None:
            binding = guards.binding(tenant, project, principal.key, route)
            request, exchange = await guarded(request, binding, exchange, ticket, self._hits)
        started = started_ms, started_seconds
        job = Job(exchange, ticket, request, principal, route, tenant, project, *started, trace, line)
        if is_own:
            await self._hold(job)
        return job

    async def _hold(self, job: Job) -> None:
        """Hold of hard budgets what the job may cost at its route's engines, in place of what it held before.
        Raises the client's error."""
        ticket, index = job.ticket, self._routes.index
        ticket.give_back(TokenCounts())
        if index.budgets is not None and WIRES[job.request.api].is_billed:
            asking = Asking(
                job.request, job.route, job.tenant, job.project, job.principal.key, job.started_ms
            )
            held = await self._budgets.admit(index, asking)
            ticket.settle = held.settle if held is not None else None

    async def _answer(self, job: Job) -> None:
        """A request that is answered in one piece. An engine that does not stop for a client that has gone
        works to its end, and what it tells then is billed."""
        with Bill(self._books, job, job.ticket.spent) as bill:
            async with ClientWatch(job.exchange, job.ticket, None, job.trace) as watch:
                try:
                    answering = await self._call(job, watch, bill)
                except ComputilityError:
                    if watch.cut is not None:
                        raise watch.cut from None
                    if watch.gone:
                        return
                    raise
            self._saw_first_byte(job)
            call = answering.call
            call.close()
            if call.answer.usage is None:
                self._rest(call)
                raise EngineFailed(_NOT_TOLD)
            counts = counts_of(call.answer.usage, answering)
            if job.trace is not None and call.answer.content is not None:
                job.trace.saw(call.answer.content)
            told = told_of(answering)
            failed = looked_at(job, told) if job.passage is not None and not watch.gone else None
            await bill.settle(counts, "cancelled" if watch.gone else "completed")
        if watch.cut is not None:
            raise watch.cut
        if failed is not None:
            raise failed
        if not watch.gone:
            await _give_out(job, told)

    async def _stream(self, job: Job) -> None:
        """A request that is answered event by event; its end is held back until the usage is durable."""
        meter = _meter(job)
        bill, stream, broke = Bill(self._books, job, job.ticket.spent), None, None
        watch = ClientWatch(job.exchange, job.ticket, DRAIN_SECONDS, job.trace)
        try:
            async with watch:
                answering = await self._begin(job, watch, bill)
                stream = Stream(self._streams, job, meter, bill, watch, answering)
                await stream.forward()
                if meter.finished and not stream.broke:
                    answering.tell(job, meter.counts)
        except OSError as error:
            _log.warning("a stream broke", model=job.route.model, error=str(error) or type(error).__name__)
        except ComputilityError as error:
            broke = error
        except asyncio.CancelledError:
            await bill.settle(meter.counts, "cancelled")
            raise
        except Exception:  # what was delivered is owed, whatever is wrong here
            await bill.settle(meter.counts, "engine_failed")
            raise
        finally:
            if stream is not None:
                stream.call.close()
        if broke is None and not watch.gone:
            broke = await self._trouble_at_the_end(job, meter, stream.call if stream is not None else None)
        if job.exchange.on_end is not None:
            job.exchange.on_end(broke is not None or (stream is not None and stream.broke))
        await _finish(job, bill, meter, watch, broke)

    async def _begin(self, job: Job, watch: ClientWatch, bill: Bill) -> Answering:
        """The engine's call whose first bytes have come."""

        async def pass_on(comments: bytes) -> None:
            if not (watch.gone or (job.passage is not None and job.passage.is_timed)):
                await write(job.exchange, comments)

        answering = await self._call(job, watch, bill, pass_on)
        self._saw_first_byte(job)
        return answering

    async def _call(
        self, job: Job, watch: ClientWatch, bill: Bill, on_comments: OnComments = drop_comments
    ) -> Answering:
        """The answered call. Where no engine is there, but one comes when somebody asks, it is waited for."""
        if job.route.external is not None:
            return await self._externals.call(job, watch, bill.begin, on_comments)
        try:
            return await self._variants.call(job, watch, bill.begin, on_comments)
        except NoEngine as error:
            if not job.route.elastic or watch.gone or (job.passage is not None and not job.passage.waits):
                raise
            nobody = error
        began_seconds = self._clock.monotonic_seconds()
        if job.trace is not None:
            job.trace.note("waits_for_engine")
        with self._waiting_room.place(job) as place:
            while (route := await self._waiting_room.next_route(job, watch, place)) is not None:
                found = replace(job, route=route)
                await self._hold(found)  # its engines may be dearer than those that were there
                try:
                    answering = await self._variants.call(found, watch, bill.begin, on_comments)
                except NoEngine:
                    continue
                metrics.WOKEN.labels("served").inc()
                metrics.WAKING_SECONDS.observe(self._clock.monotonic_seconds() - began_seconds)
                return answering
        raise nobody

    async def _trouble_at_the_end(
        self, job: Job, meter: StreamMeter, call: EngineCall | None
    ) -> ComputilityError | None:
        """What the client has to be told of a stream that has ended; None when all is well."""
        if meter.error is not None or not meter.finished:
            status = status_in_stream(meter.error)
            at_fault = call is not None and status is not None and may_be_the_request(status)
            healthy = at_fault and call is not None and await call.is_healthy()
            metrics.ENGINE_REFUSED.inc(healthy)
            return error_in_stream(meter.error, job.request.input_field, healthy)
        if call is not None and not (meter.told and meter.total_told):
            self._rest(call)
        return None if meter.told else EngineFailed(_NOT_TOLD)

    def _rest(self, call: EngineCall) -> None:
        """Leave an engine alone that does not tell what it has used."""
        _log.error("an answer tells no usage", replica=call.replica.id)
        metrics.USAGE_NOT_TOLD.inc()
        self._upstream.rest(call.replica)

    def _saw_first_byte(self, job: Job) -> None:
        waited = self._clock.monotonic_seconds() - job.started_seconds
        if job.passage is not None:
            job.passage.began()
        if job.trace is not None:
            job.trace.answers(waited)
        if WIRES[job.request.api].is_billed and job.line is None:
            model = metrics.MODELS.of(job.route.model)
            metrics.series(metrics.FIRST_BYTE_SECONDS, model).observe(waited)
            self._shadows.copy(job)


def _meter(job: Job) -> StreamMeter:
    request, names = job.request, rename(job)
    events = EVENTS.get(request.api)
    if events is not None:
        return EventMeter(events, names)
    return StreamMeter(request.usage_shown, request.choices_per_prompt, request.prompts, names)


async def _finish(
    job: Job, bill: Bill, meter: StreamMeter, watch: ClientWatch, broke: ComputilityError | None
) -> None:
    """Make the usage durable, then send the end; what went wrong is told by status or as the last event."""
    outcome: Outcome = "cancelled" if watch.gone else "engine_failed" if broke is not None else "completed"
    error = watch.cut or broke
    try:
        await bill.settle(meter.counts, outcome)
    except ComputilityError as failure:
        error = failure
    if job.trace is not None and error is not None:
        job.trace.failed(error.code)
    if watch.gone and watch.cut is None:
        return
    if not job.exchange.started:
        if error is not None:
            raise error
        await job.exchange.start(200, STREAM_HEADERS)
    await job.exchange.write(meter.ending(error), more=False)


async def _give_out(job: Job, content: bytes | None) -> None:
    """The answer in one piece. Raises ``InvalidInput`` for one that is too large: it is made and billed, and
    asking again would make it again."""
    if content is None:
        job.ticket.drop_answer()
        raise InvalidInput(_TOO_LARGE, code="answer_too_large")
    edited = WIRES[job.request.api].edited(content, rename(job))
    await job.exchange.respond(200, edited, b"application/json")
