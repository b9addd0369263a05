"""What every request passes first: identity, size limit, Idempotency-Key; and what every answer leaves
behind: an audit entry and metrics. Nothing but ``PUBLIC`` is served to anyone without a key or the internal
token."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from http import HTTPStatus

from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.auth import shows_token
from common.durable import is_no_room
from common.errors import NO_ROOM, ComputilityError, InvalidInput, TooLarge, Unauthenticated, Unavailable
from common.http_server.content import decoded
from common.http_server.front import NO_SNIFFING
from common.ids import new_id
from common.store.authorship import authored
from common.telemetry import get_logger
from common.units import MIB, format_bytes
from common.wire import JSON_LIMIT_BYTES, MULTIPART_OVERHEAD_BYTES
from control.admission.access import authenticate, bearer_of
from control.api.errors import error_response
from control.api.exchange import Exchange, start_exchange
from control.api.idempotency import HEADER, Idempotency
from control.api.routes import reference
from control.context import ControlContext

PUBLIC = frozenset(("/healthz", "/readyz", "/openapi.json", "/api/v1/version", *reference.PATHS))
METRICS = "/metrics"
METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
"""What is told by name in metrics; a client can make up others."""
INTERNAL_PREFIX = "/internal/"
WRITES = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_TOLD_OFTEN = ("usage-events", "demand", "trials", "thresholds", "guard-hits")
NOT_AUDITED = frozenset(f"/internal/v1/{name}" for name in _TOLD_OFTEN)
"""What gateways tell again and again: usage has a log of its own, the ledger, and the rest is kept in memory
for a while and changes nothing that is stored."""

USAGE_LIMIT_BYTES = 32 * MIB
DISCARD_SECONDS = 10.0
MAX_TARGET_CHARACTERS = 500

REQUESTS = Counter("computility_control_requests", "Answered requests", ("method", "route", "status"))
SECONDS = Histogram("computility_control_request_seconds", "Time until the answer began", ("method", "route"))
_log = get_logger("control.api")


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, context: ControlContext) -> None:
        self._app = app
        self._context = context
        self._idempotency = Idempotency(context.store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = start_exchange(scope, headers.get("x-request-id", "")[:128] or new_id("req"))
        answer = _Answer(self._context, scope, exchange, send)
        try:
            await self._identify(scope["path"], headers, exchange)
            limited = await self._limit(scope, headers, receive)
            with authored(exchange.author):
                await self._serve(scope, headers, limited, answer.send, exchange)
        except ComputilityError as error:
            exchange.error_code = error.code
            await answer.fail(scope, receive, error)
        except ClientDisconnect:
            return
        except Exception as fault:  # noqa: BLE001 - the request boundary: no bug of one request ends the process
            if is_no_room(fault):
                _log.error("no room on the disk", request_id=exchange.request_id, error=str(fault))
                exchange.error_code = NO_ROOM
                await answer.fail(scope, receive, Unavailable("there is no room on the disk", code=NO_ROOM))
                return
            _log.exception("request failed", request_id=exchange.request_id, path=scope["path"])
            bug = ComputilityError(f"internal error; the log has the details under {exchange.request_id}")
            exchange.error_code = bug.code
            await answer.fail(scope, receive, bug)

    async def _identify(self, path: str, headers: Mapping[str, str], exchange: Exchange) -> None:
        if path in PUBLIC:
            return
        if path.startswith(INTERNAL_PREFIX):
            token = self._context.settings.internal_token
            if not token or not hmac.compare_digest(bearer_of(headers).encode(), token.encode()):
                raise Unauthenticated("this needs the internal token of the instance")
            exchange.identify("internal")
            return
        authorization = headers.get("authorization", "").encode("latin-1")
        if path == METRICS and shows_token(authorization, self._context.settings.metrics_token):
            exchange.identify("metrics")
            return
        caller = await authenticate(headers, self._context.directories, self._context.clock)
        exchange.identify(caller.principal.key, caller)
        if path == METRICS:
            caller.principal.require("platform-admin")

    async def _limit(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Receive:
        limit = self._limit_bytes(scope["path"])
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            await _discard(receive)
            raise _too_large(limit)
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                if message.get("more_body", False):
                    await _discard(receive)
                raise _too_large(limit)
            return message

        return decoded(limited, headers.get("content-encoding", "").encode("latin-1"), limit)

    def _limit_bytes(self, path: str) -> int:
        if path == "/v1/files":
            return self._context.settings.control.upload_limit_bytes + MULTIPART_OVERHEAD_BYTES
        return USAGE_LIMIT_BYTES if path == "/internal/v1/usage-events" else JSON_LIMIT_BYTES

    async def _serve(
        self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send, exchange: Exchange
    ) -> None:
        key = headers.get(HEADER)
        if key is None or exchange.caller is None or scope["method"] not in WRITES:
            await self._app(scope, receive, send)
            return
        if not 0 < len(key) <= 255:
            raise InvalidInput("Idempotency-Key: must have 1 to 255 characters", param="Idempotency-Key")
        await self._idempotency.serve(self._app, scope, receive, send, exchange, key)


class _Answer:
    """Sends the answer; before its first byte the audit entry is kept."""

    def __init__(self, context: ControlContext, scope: Scope, exchange: Exchange, send: Send) -> None:
        self._context = context
        self._scope = scope
        self._exchange = exchange
        self._send = send
        self._began = context.clock.monotonic_seconds()
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self.started:
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._exchange.request_id
            headers.setdefault("Cache-Control", "no-store")
            headers.append(*(text.decode() for text in NO_SNIFFING))
            if "content-length" not in headers:
                headers["X-Accel-Buffering"] = "no"
            await self._leave_traces(message["status"])
            self.started = True
        await self._send(message)

    async def fail(self, scope: Scope, receive: Receive, error: ComputilityError) -> None:
        """Answer with the error, unless an answer has begun: then the connection just ends."""
        if not self.started:
            await error_response(error)(scope, receive, self.send)

    async def _leave_traces(self, status: int) -> None:
        scope, exchange = self._scope, self._exchange
        method = scope["method"]
        told = method if method in METHODS else "other"
        route = getattr(scope.get("route"), "path", "unmatched")
        REQUESTS.labels(told, route, str(status)).inc()
        SECONDS.labels(told, route).observe(self._context.clock.monotonic_seconds() - self._began)
        denied = status in (401, 403) or exchange.denied
        if not denied and (method not in WRITES or scope["path"] in NOT_AUDITED):
            return
        if exchange.in_session and not denied:
            return
        query = scope.get("query_string", b"").decode("latin-1")
        target = f"{scope['path']}?{query}" if query else scope["path"]
        refused = f"refused {exchange.asked}" if exchange.asked and status >= HTTPStatus.BAD_REQUEST else ""
        written = exchange.author.summary or refused
        audit = self._context.audit
        entry = (
            exchange.actor,
            method,
            f"{target[:MAX_TARGET_CHARACTERS]} {written[:MAX_TARGET_CHARACTERS]}".rstrip(),
            exchange.error_code or "ok",
            exchange.caller.tenant_uid if exchange.caller else "",
        )
        if not denied and status < 400:
            await audit.keep(*entry)  # what cannot be audited is not answered as done
            return
        try:
            await audit.refuse(*entry)
        except Unavailable as error:  # the caller is told of the refusal all the same
            _log.error("refusal not in the audit log", request_id=exchange.request_id, error=error.message)


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"the body is over the limit of {format_bytes(limit_bytes)}")


async def _discard(receive: Receive) -> None:
    """Read on for a while, so that a client that is still sending gets to read the answer."""
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
