"""Requests to engines: the pick of a replica, failover before the first byte, and aborts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from common.auth import engine_headers
from common.clock import Clock
from common.errors import ComputilityError, EngineFailed, Unavailable
from common.ids import new_id
from common.settings import GatewaySettings
from common.telemetry import get_logger
from common.wire import Route, RouteReplica
from inference.core.apis.beginning import Beginning
from inference.core.apis.wires import WIRES
from inference.core.body import InferenceRequest
from inference.core.engine_errors import (
    error_from_engine,
    is_retryable,
    may_be_the_request,
    refused_by_engine,
)
from inference.core.routing.router import Sent
from inference.gateway import metrics
from inference.gateway.admission import Ticket
from inference.gateway.engines.client import EngineClient
from inference.gateway.engines.connection import (
    Answer,
    Disconnected,
    Malformed,
    TransportFailed,
    Unreachable,
)
from inference.gateway.engines.ids import engine_ids as _engine_ids
from inference.gateway.engines.limit import Limit
from inference.gateway.engines.replicas import Replicas, why_nobody
from inference.gateway.engines.reports import Reports
from inference.gateway.engines.whole_answer import Hold, WholeAnswer, read_answer, read_error
from inference.gateway.exchange import Exchange

if TYPE_CHECKING:
    from inference.gateway.tracing.request import CallTrace, RequestTrace

DRAIN_SECONDS = 15.0
"""Longest wait for an engine to end a stream whose client has gone."""
ABORT_INTERVAL_SECONDS = 0.15

MAX_FAILED_ENGINES = 2
"""A request that broke this many engines is not tried on more: it may be what breaks them."""

HEALTH_SECONDS = 3.0
ABORT_SECONDS = 2.0
JSON_CONTENT = {"Content-Type": "application/json"}
COMMENT_LIMIT_BYTES = 64 * 1024

_BREAKING_STATUS = frozenset({502, 503})
_log = get_logger("gateway.upstream")

OnComments = Callable[[bytes], Awaitable[None]]
"""Is given the comments that an engine sends before its answer, to keep the connection alive."""


class StreamBroke(TransportFailed):
    """An engine's stream ended before its end."""


class NoEngine(Unavailable):
    """No engine was there to take the request, so that none has begun it."""


class EngineCall:
    """One attempt at one replica. After ``send`` its ``status`` is there, and ``answer`` if it is a whole
    one; else ``content`` has the first bytes of a stream, or an error's. ``trouble``: what broke it, in a
    word. ``waited_seconds``: for these bytes, or all of an answer."""

    def __init__(
        self,
        client: EngineClient,
        replica: RouteReplica,
        sent: Sent,
        request: InferenceRequest,
        id_: str,
        trace: CallTrace | None = None,
    ) -> None:
        self.replica = replica
        self.status = 0
        self.content = b""
        self.trouble = ""
        self.waited_seconds = 0.0
        self.answer = WholeAnswer(None, None)
        self._client = client
        self._sent = sent
        self._request = request
        self._wire = WIRES[request.api]
        self._id = id_
        self._trace = trace
        self._response: Answer | None = None
        self._open = True

    async def send(self, body: bytes, on_comments: OnComments, hold: Hold) -> None:
        """Send; then read the first bytes of a stream, or all of any other answer.

        Comments before a stream's first event are passed on and are no first bytes; ``hold`` is asked for
        room for an answer.
        """
        loop = asyncio.get_running_loop()
        began_seconds = loop.time()
        headers = {**JSON_CONTENT, "X-Request-Id": self._id}
        if self._trace is not None:
            headers.update(self._trace.headers)
        url = self.replica.url + self._wire.engine_path
        response = await self._client.post(url, body, headers)
        self._response, self.status = response, response.status
        if self._request.stream and self.status == 200:
            limit_bytes = COMMENT_LIMIT_BYTES + 3 * len(body)  # what was asked may be told twice before
            beginning = Beginning(self._wire.has_only_begun)
            try:
                while not beginning.is_over:
                    data = await response.readany()
                    if not data or beginning.size_bytes > limit_bytes:
                        raise Malformed("the engine ended the stream before its first event")
                    if comments := beginning.add(data):
                        await on_comments(comments)
            finally:
                self.content = beginning.content
        elif self.status == 200:
            self.answer = await read_answer(response, hold, self._wire.usage)
        else:
            self.content = await read_error(response)
        self._sent.answering()
        self.waited_seconds = loop.time() - began_seconds
        if self._trace is not None:
            usage = self.answer.usage
            self._trace.answering(usage.counts if usage is not None else None)

    @property
    def beside(self) -> int:
        """Other requests that the engine had when this one was sent."""
        return self._sent.beside

    async def chunks(self) -> AsyncIterator[bytes]:
        """The stream, from its first bytes to its end. Raises ``StreamBroke``."""
        assert self._response is not None
        data = self.content
        while data:
            yield data
            try:
                data = await self._response.readany()
            except TransportFailed as error:
                self.trouble = "stream_broke"
                raise StreamBroke(str(error) or type(error).__name__) from error

    async def abort(self) -> bool:
        """Tell the engine to stop; False when it cannot be told. One that has not begun yet ignores it."""
        body = json.dumps({"request_ids": _engine_ids(self._request, self._id)}).encode()
        url = f"{self.replica.url}/inference/v1/abort_requests"
        try:
            async with self._client.asking("POST", url, ABORT_SECONDS, body, JSON_CONTENT) as response:
                return response.status == 200
        except TimeoutError:
            return True  # a busy engine: it is asked again
        except TransportFailed:
            return False

    async def is_healthy(self) -> bool:
        """Whether the engine says, right now, that it works."""
        try:
            async with self._client.asking("GET", f"{self.replica.url}/health", HEALTH_SECONDS) as response:
                return response.status == 200
        except TransportFailed:
            return False

    def close(self) -> None:
        """Give the connection back, or close it where the answer was not read whole. Safe to repeat."""
        if self._open:
            self._open = False
            self._sent.end()
            if self._trace is not None:
                self._trace.end(self.status, self.trouble)
            if self._response is not None:
                self._response.close()


class ClientWatch:
    """While entered: notices that the client has gone, then aborts the engine's request until that has ended.

    ``gone`` tells, ``left`` is set for those who wait, ``gone_seconds`` is when, by the loop's time; ``cut``
    says why where it was the gateway that ended the request (its key was revoked).
    ``id`` is what engines call the request, on each of its legs; ``broken`` are those that broke on it;
    ``trace`` has the spans of the legs.
    The block is ended with ``TimeoutError`` when the engine does not stop within ``drain_seconds``, or cannot
    be told to. None waits for the end of its answer, so that what it tells then can be billed.
    """

    def __init__(
        self,
        exchange: Exchange,
        ticket: Ticket,
        drain_seconds: float | None,
        trace: RequestTrace | None = None,
    ) -> None:
        self.gone = False
        self.gone_seconds = 0.0
        self.cut: ComputilityError | None = None
        self.call: EngineCall | None = None
        self.id = new_id("req")
        self.broken = 0
        self.trace = trace
        self._exchange = exchange
        self._ticket = ticket
        self.hold: Hold = ticket.take_answer
        self._drain_seconds = drain_seconds
        self._left: asyncio.Event | None = None
        self._limit = Limit()
        self._stopping: asyncio.Task[None] | None = None

    @property
    def left(self) -> asyncio.Event:
        """Set once the client has gone."""
        if self._left is None:
            self._left = asyncio.Event()
            if self.gone:
                self._left.set()
        return self._left

    async def __aenter__(self) -> ClientWatch:
        self._limit.begin()
        self._leave_be = self._exchange.when_gone(self._has_left)
        self._ticket.end = self._end
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticket.end = None
        self._leave_be()
        if self._stopping is not None:
            self._stopping.cancel()
        self._limit.end(kind)

    def _end(self, why: ComputilityError) -> None:
        if not self.gone:
            self.cut = why
            self._has_left()

    def _has_left(self) -> None:
        if self._stopping is None:
            self.gone, self.gone_seconds = True, asyncio.get_running_loop().time()
            if self._left is not None:
                self._left.set()
            self._stopping = asyncio.create_task(self._stop())

    async def _stop(self) -> None:
        if self._drain_seconds is not None:
            self._limit.set(self._drain_seconds)
        while self.call is None or await self.call.abort():
            await asyncio.sleep(ABORT_INTERVAL_SECONDS)
        if self._drain_seconds is not None:
            self._limit.set(0.0)


async def drop_comments(comments: bytes) -> None:
    """For callers that have nobody to pass comments on to."""


class Upstream:
    """All engines, as this gateway sees them."""

    def __init__(self, settings: GatewaySettings, internal_token: str, clock: Clock) -> None:
        self.replicas = Replicas(clock, settings.prefix_entries)
        headers = {
            "Accept-Encoding": "identity",
            "User-Agent": "computility-gateway",
            **engine_headers(internal_token),
        }
        self._client = EngineClient(headers, settings.connect_timeout_seconds, settings.read_timeout_seconds)
        self.reports = Reports(self._client, self.replicas)

    async def close(self) -> None:
        await self._client.close()

    def keep_only(self, routes: Sequence[Route]) -> None:
        """Forget replicas that no route names any more."""
        self.replicas.keep_only(routes)

    def rest(self, replica: RouteReplica) -> None:
        """Leave a replica alone for a while: it answers, but not as it must."""
        self.replicas.rest(replica.url)

    def broke(self, replica: RouteReplica) -> None:
        """A stream broke off there: its process may be gone, and its cache."""
        self.replicas.failed(replica.url, gone=True)

    def ended_well(self, replica: RouteReplica) -> None:
        """A stream came to its end there."""
        self.replicas.answered(replica.url)

    async def tell(self, replica: RouteReplica, path: str, body: bytes, seconds: float) -> bool:
        """Send an engine what it need not answer well; False when it did not answer at all in time."""
        try:
            async with self._client.asking(
                "POST", replica.url + path, seconds, body, JSON_CONTENT
            ) as response:
                while await response.readany():
                    pass
                return True
        except TransportFailed:
            return False

    async def call(
        self,
        route: Route,
        request: InferenceRequest,
        tenant: str,
        body: Callable[[RouteReplica], bytes],
        watch: ClientWatch,
        begin: Callable[[RouteReplica], None],
        on_comments: OnComments = drop_comments,
        tried: set[str] | None = None,
    ) -> EngineCall:
        """An answered call with status 200, tried on one replica after the other until the first byte.

        ``begin`` is called before each replica is asked, then ``body`` for what to send it; what they raise
        ends the call. ``tried``: URLs of replicas that are not asked; those that were are added. Raises the
        client's error when all have failed, or at once when the engine finds the request wrong.
        """
        tried = set() if tried is None else tried
        ask = self.replicas.ask(route, request, tenant)
        error: ComputilityError | None = None
        while not watch.gone and watch.broken < MAX_FAILED_ENGINES:
            chosen = self.replicas.choose(route, route.replicas, ask, tried)
            if chosen is None:
                break
            replica, sent = chosen
            if tried:
                metrics.FAILOVERS.labels(metrics.MODELS.of(route.model)).inc()
            tried.add(replica.url)
            try:
                begin(replica)
                content = body(replica)
            except BaseException:
                sent.end()
                raise
            trace = watch.trace.call(replica, sent.reason) if watch.trace is not None else None
            call = watch.call = EngineCall(self._client, replica, sent, request, watch.id, trace)
            failure = await self._attempt(call, content, request, on_comments, watch.hold)
            if failure is None:
                return call
            broke = call.status == 0 or call.status >= 500
            watch.broken += broke and isinstance(failure, EngineFailed)
            error = failure
        raise error or NoEngine(why_nobody(route))

    async def _attempt(
        self,
        call: EngineCall,
        body: bytes,
        request: InferenceRequest,
        on_comments: OnComments,
        hold: Hold,
    ) -> ComputilityError | None:
        """None when the call was answered well; the failure when another replica may do better."""
        url = call.replica.url
        try:
            await call.send(body, on_comments, hold)
        except TransportFailed as error:
            call.trouble = type(error).__name__
            call.close()
            broken = isinstance(error, Disconnected | Unreachable)
            self.replicas.failed(url, gone=broken)
            _log.warning(
                "engine call failed", replica=call.replica.id, error=str(error) or type(error).__name__
            )
            if isinstance(error, Unreachable):
                return NoEngine("no replica of this model can be reached; try again in a moment")
            return EngineFailed("the engine broke before it answered; try again")
        except BaseException as error:
            call.trouble = type(error).__name__
            call.close()
            raise
        if call.status in _BREAKING_STATUS:
            self.replicas.failed(url)
        elif call.status != 200 or not request.stream:  # a stream is to come to its end first
            self.replicas.answered(url)
        if call.status == 200:
            return None
        call.close()
        if may_be_the_request(call.status) and await call.is_healthy():
            metrics.ENGINE_REFUSED.inc()
            _log.warning("an engine fails on a request", replica=call.replica.id, status=call.status)
            raise refused_by_engine()
        failure = error_from_engine(call.status, call.content, request.input_field, request.prompt)
        if is_retryable(call.status):
            return failure
        raise failure
