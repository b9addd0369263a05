"""The inference paths: from the client's request to an engine and back, counted exactly."""

from __future__ import annotations

import asyncio
import json

from common.errors import ComputilityError, EngineFailed, NotFound, openai_body
from common.http_server.front import UNBUFFERED
from common.settings import GatewaySettings
from common.telemetry import get_logger
from common.wire import Route
from inference.core.body import Task, check_context, engine_body, parse_request
from inference.core.engine_errors import error_in_stream
from inference.core.sse import DONE_EVENT, StreamMeter
from inference.core.usage import find_usage
from inference.gateway import metrics
from inference.gateway.bill import Bill, Books, Job, Outcome
from inference.gateway.exchange import Exchange
from inference.gateway.routes import RouteFollower
from inference.gateway.table import payer_of
from inference.gateway.upstream import TRANSPORT_ERRORS, ClientWatch, EngineCall, Upstream

_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), *UNBUFFERED]
_log = get_logger("gateway.serve")


class InferenceHandler:
    """Answers POST on the inference paths."""

    def __init__(
        self, settings: GatewaySettings, routes: RouteFollower, upstream: Upstream, books: Books
    ) -> None:
        self._settings = settings
        self._routes = routes
        self._upstream = upstream
        self._books = books
        self._clock = books.clock

    async def handle(self, exchange: Exchange, task: Task) -> None:
        job = await self._admit(exchange, task)
        body = engine_body(job.request, job.route.backend_model, job.tenant)
        sent_seconds = self._clock.monotonic_seconds()
        try:
            if job.request.stream:
                await self._stream(job, body)
            else:
                await self._answer(job, body)
        finally:
            spent = self._clock.monotonic_seconds() - sent_seconds
            metrics.UPSTREAM_SECONDS.labels(metrics.MODELS.of(job.route.model)).observe(spent)

    async def _admit(self, exchange: Exchange, task: Task) -> Job:
        """Everything that can be decided without an engine. Raises the client's error."""
        started_ms, started_seconds = self._clock.now_ms(), self._clock.monotonic_seconds()
        index = self._routes.index
        principal = index.authenticate(exchange.headers.get(b"authorization", b""), self._clock)
        raw = await exchange.read_body(self._settings.body_limit_bytes)
        request = parse_request(task, raw)
        route = index.find(principal, request.model)
        exchange.model = route.model
        if task not in route.tasks:
            raise NotFound(
                f"the model {route.model} does not serve {task}", code="task_not_served", param="model"
            )
        check_context(request, route.context_tokens)
        tenant, project = payer_of(principal, route)
        return Job(exchange, request, principal, route, tenant, project, started_ms, started_seconds)

    async def _answer(self, job: Job, body: bytes) -> None:
        """A request that is answered in one piece."""
        try:
            async with ClientWatch(job.exchange) as watch:
                call = await self._upstream.call(job.route, job.request, body, watch)
        except TimeoutError:
            _log.warning("an engine did not stop for a client that had gone", model=job.route.model)
            return
        except ComputilityError:
            if watch.gone:
                return
            raise
        self._saw_first_byte(job)
        call.close()
        usage = find_usage(call.content)
        if usage is None:
            _log.error("an answer tells no usage", model=job.route.model, replica=call.replica.id)
            raise EngineFailed("the engine's answer tells no token counts, so it is not given out")
        bill = Bill(self._books, job, call.replica)
        await bill.settle(usage.counts, "cancelled" if watch.gone else "completed")
        if not watch.gone:
            rename = _rename(job.route)
            content = call.content.replace(*rename, 1) if rename else call.content
            await job.exchange.respond(200, content, b"application/json")

    async def _stream(self, job: Job, body: bytes) -> None:
        """A request that is answered event by event; its end is held back until the usage is durable."""
        request, exchange = job.request, job.exchange
        meter = StreamMeter(
            request.usage_shown, request.choices_per_prompt, request.prompts, _rename(job.route)
        )
        call: EngineCall | None = None
        bill: Bill | None = None
        try:
            async with ClientWatch(exchange) as watch:
                call = await self._upstream.call(job.route, request, body, watch)
                bill = Bill(self._books, job, call.replica)
                self._saw_first_byte(job)
                await _forward(exchange, call, meter, watch, bill)
        except TRANSPORT_ERRORS as error:
            _log.warning("a stream broke", model=job.route.model, error=str(error) or type(error).__name__)
        except ComputilityError:
            if watch.gone:
                return
            raise
        except asyncio.CancelledError:
            if bill is not None:
                await bill.settle(meter.counts, "cancelled")
            raise
        finally:
            if call is not None:
                call.close()
        if bill is not None:
            await self._finish(job, bill, meter, watch.gone)

    async def _finish(self, job: Job, bill: Bill, meter: StreamMeter, gone: bool) -> None:
        error: ComputilityError | None = None
        if meter.error is not None or not meter.finished:
            error = error_in_stream(meter.error, job.request.input_field)
        elif not meter.counts.quantities():
            _log.error("a stream tells no usage", model=job.route.model, replica=bill.replica.id)
        outcome: Outcome = "cancelled" if gone else "engine_failed" if error is not None else "completed"
        try:
            await bill.settle(meter.counts, outcome)
        except ComputilityError as failure:
            error = failure
        if gone:
            return
        if not job.exchange.started:
            if error is not None:
                raise error
            await job.exchange.start(200, _STREAM_HEADERS)
        tail = f"data: {json.dumps(openai_body(error))}\n\n".encode() if error is not None else b""
        await job.exchange.write(tail + DONE_EVENT, more=False)

    def _saw_first_byte(self, job: Job) -> None:
        waited = self._clock.monotonic_seconds() - job.started_seconds
        metrics.FIRST_BYTE_SECONDS.labels(metrics.MODELS.of(job.route.model)).observe(waited)


async def _forward(
    exchange: Exchange, call: EngineCall, meter: StreamMeter, watch: ClientWatch, bill: Bill
) -> None:
    """Pass the stream on as it comes, each part once it is noted; when the client has gone, only count."""
    async for data in call.chunks():
        events = meter.feed(data)
        bill.note(meter.counts)
        if not events or watch.gone:
            continue
        if not exchange.started:
            await exchange.start(200, _STREAM_HEADERS)
        await exchange.write(events)


def _rename(route: Route) -> tuple[bytes, bytes] | None:
    """The engine's model member and the client's, where they differ."""
    if route.backend_model == route.model:
        return None
    return _model_member(route.backend_model), _model_member(route.model)


def _model_member(name: str) -> bytes:
    return f'"model":{json.dumps(name, ensure_ascii=False)}'.encode()
