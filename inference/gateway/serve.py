"""The inference paths: from the client's request to an engine and back, counted exactly."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Literal

from billing.core.events import UsageEvent
from common.auth import Principal
from common.clock import Clock
from common.errors import ComputilityError, EngineFailed, NotFound, openai_body
from common.ids import new_id
from common.settings import GatewaySettings
from common.telemetry import get_logger
from common.wire import Route, RouteReplica
from inference.core.body import InferenceRequest, Task, check_context, engine_body, parse_request
from inference.core.engine_errors import error_in_stream
from inference.core.sse import DONE_EVENT, StreamMeter
from inference.core.usage import TokenCounts, find_usage
from inference.gateway import metrics
from inference.gateway.exchange import Exchange
from inference.gateway.routes import RouteFollower
from inference.gateway.spool import Spool
from inference.gateway.table import payer_of
from inference.gateway.upstream import TRANSPORT_ERRORS, ClientWatch, EngineCall, Upstream

Outcome = Literal["completed", "cancelled", "engine_failed"]

_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_log = get_logger("gateway.serve")


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


class InferenceHandler:
    """Answers POST on the inference paths."""

    def __init__(
        self, settings: GatewaySettings, routes: RouteFollower, upstream: Upstream, spool: Spool, clock: Clock
    ) -> None:
        self._settings = settings
        self._routes = routes
        self._upstream = upstream
        self._spool = spool
        self._clock = clock

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
            metrics.UPSTREAM_SECONDS.labels(job.route.model).observe(spent)

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
        await self._bill(job, usage.counts, "cancelled" if watch.gone else "completed", call.replica)
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
        try:
            async with ClientWatch(exchange) as watch:
                call = await self._upstream.call(job.route, request, body, watch)
                self._saw_first_byte(job)
                await _forward(exchange, call, meter, watch)
        except TRANSPORT_ERRORS as error:
            _log.warning("a stream broke", model=job.route.model, error=str(error) or type(error).__name__)
        except ComputilityError:
            if watch.gone:
                return
            raise
        except asyncio.CancelledError:
            if call is not None:
                await self._bill(job, meter.counts, "cancelled", call.replica)
            raise
        finally:
            if call is not None:
                call.close()
        if call is not None:
            await self._finish(job, call, meter, watch.gone)

    async def _finish(self, job: Job, call: EngineCall, meter: StreamMeter, gone: bool) -> None:
        error: ComputilityError | None = None
        if meter.error is not None or not meter.finished:
            error = error_in_stream(meter.error, job.request.input_field)
        elif not meter.counts.quantities():
            _log.error("a stream tells no usage", model=job.route.model, replica=call.replica.id)
        outcome: Outcome = "cancelled" if gone else "engine_failed" if error is not None else "completed"
        try:
            await self._bill(job, meter.counts, outcome, call.replica)
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

    async def _bill(self, job: Job, counts: TokenCounts, outcome: Outcome, replica: RouteReplica) -> None:
        """Make the usage durable. Nothing used, nothing billed.

        A prompt counts, for engine and bill alike, with the first token made from it.
        """
        quantities = counts.quantities()
        unborn = outcome == "cancelled" and counts.completion == 0 and job.request.task != "embeddings"
        if not quantities or unborn:
            return
        event = UsageEvent(
            id=new_id("use", self._clock),
            kind="inference",
            tenant=job.tenant,
            project=job.project,
            key=job.principal.key,
            model=job.route.model,
            base_model=job.route.base_model,
            device_class=replica.device_class,
            resource=replica.id,
            outcome=outcome,
            started_ms=job.started_ms,
            ended_ms=max(self._clock.now_ms(), job.started_ms),
            quantities=quantities,
            labels={"task": job.request.task, "request_id": job.exchange.request_id},
        )
        await self._spool.append(event)
        metrics.OUTCOMES.labels(job.route.model, outcome).inc()
        for kind, amount in quantities.items():
            metrics.TOKENS.labels(job.route.model, kind).inc(amount)

    def _saw_first_byte(self, job: Job) -> None:
        waited = self._clock.monotonic_seconds() - job.started_seconds
        metrics.FIRST_BYTE_SECONDS.labels(job.route.model).observe(waited)


async def _forward(exchange: Exchange, call: EngineCall, meter: StreamMeter, watch: ClientWatch) -> None:
    """Pass the stream on as it comes; once the client has gone, only count."""
    async for data in call.chunks():
        events = meter.feed(data)
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
