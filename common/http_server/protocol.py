"""HTTP/1.1 as uvicorn speaks it, with limits on all that a client can make long or slow.

Framing has one reading: a request that another server could understand otherwise is refused. A connection
that has been refused is read on for a moment, so that the client gets to see why.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from common.http_server.door import REFUSED, Door

LINGER_SECONDS = 2.0
LINGER_BYTES = 4 * 1024**2
ONCE = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type", b"idempotency-key")
)
"""Headers of which two would leave open which one counts."""


class _Refusal(Exception):
    """Ends the parsing of a request."""


class UntilClose(RequestResponseCycle):
    """An answer to HTTP/1.0: of unknown length it ends with the connection, not in chunks (RFC 9112, 6.1)."""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            self._open_end = b"content-length" not in names
            if self._open_end:
                self.chunked_encoding = False
        elif self._open_end:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)

    _open_end = False


class GuardedProtocol(HttpToolsProtocol):
    """One connection. ``door`` is set by ``guarded``."""

    door: Door

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._admitted = False
        self._refusal: tuple[int, str] = (400, "this is no valid HTTP request")
        self._ends_at: float | None = None
        self._phase = "new"
        self._since = 0.0
        self._header_bytes = 0
        self._body_bytes = 0
        self._progress = 0.0
        self._write_stalled: float | None = None
        self._discarded_bytes = 0
        self._reads_on = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._admitted = self.door.admit(self, self.client[0] if self.client else "")
        if not self._admitted:
            self._refuse(503, "too many connections; try again in a moment", "connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._ends_at is not None:
            self._discard(len(data))
            if not self._reads_on:
                return
        if self._phase in ("new", "idle"):
            self._begin_header()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._ignore_the_rest()
        except httptools.HttpParserError:
            if self._reads_on:
                self._reads_on = False  # What is wrong belongs to a request that has its answer.
            else:
                self._refuse(*self._refusal, "malformed")
        if self._phase == "header" and self._ends_at is None:
            self._header_bytes += len(data)
            if self._header_bytes > self.door.limits.header_limit_bytes:
                self._refuse(431, self._too_long_headers(), "headers")
        self._rest_if_answered()

    def check(self, now_seconds: float) -> None:
        """End the connection where its client took too long."""
        limits, waited = self.door.limits, now_seconds - self._since
        if self._ends_at is not None:
            if now_seconds >= self._ends_at:
                self.transport.abort()
        elif self._write_stalls(now_seconds):
            REFUSED.labels("slow-reader").inc()
            self._cut()
        elif self._phase == "new" and waited > limits.header_seconds:
            REFUSED.labels("silent").inc()
            self.transport.abort()
        elif self._phase == "header" and waited > limits.header_seconds:
            self._refuse(408, "the headers took too long to arrive", "slow-headers")
        elif self._phase == "body" and self._body_stalls(now_seconds):
            self._refuse(408, "the body took too long to arrive", "slow-body")

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin_header()
        if len(self.pipeline) > self.door.limits.max_pipelined:
            self._stop(400, "too many requests wait on this connection")

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.door.limits.url_limit_bytes:
            self._stop(414, f"path and query are over {self.door.limits.url_limit_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase != "header":
            return  # A trailer: what is said after the body changes nothing of the request.
        limits = self.door.limits
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value) + 4
        if len(self.headers) > limits.header_limit_count or self._header_bytes > limits.header_limit_bytes:
            self._stop(431, self._too_long_headers())

    def on_headers_complete(self) -> None:
        self._check_framing()
        self._phase, self._since = "body", self.loop.time()
        self._progress, self._body_bytes = self._since, 0
        super().on_headers_complete()
        if self.parser.get_http_version() == "1.0":
            self.cycle.__class__ = UntilClose

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._progress = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._phase, self._header_bytes = "idle", 0
        if self._reads_on:
            self._reads_on, self._ends_at, self._discarded_bytes = False, None, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._phase == "body" and self.cycle.response_complete and self._ends_at is None:
            # The answer did not need the body, which is still on its way. Where it comes soon the connection
            # goes on; not where the client asked whether to send it, since then it may never come.
            self._ends_at = self.loop.time() + LINGER_SECONDS
            self._reads_on = not self.expect_100_continue

    def shutdown(self) -> None:
        """The server ends: idle connections at once, others with their answer."""
        if self._ends_at is not None:
            self.transport.abort()
        super().shutdown()

    def _begin_header(self) -> None:
        if self._phase != "header":
            self._phase, self._since, self._header_bytes = "header", self.loop.time(), 0

    def _check_framing(self) -> None:
        names = [name for name, _ in self.headers]
        for name in ONCE:
            if names.count(name) > 1:
                self._stop(400, f"the header {name.decode()} is given twice")
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._stop(505, "this server speaks HTTP/1.0 and HTTP/1.1")
        if version == "1.1" and b"host" not in names:
            self._stop(400, "the header host is missing")
        coding = next((value for name, value in self.headers if name == b"transfer-encoding"), None)
        if coding is not None and (version == "1.0" or b"content-length" in names):
            self._stop(400, "transfer-encoding does not go with content-length, nor with HTTP/1.0")
        if coding is not None and coding.strip().lower() != b"chunked":
            self._stop(501, "of all transfer codings only chunked is known")
        method = self.parser.get_method()
        bodiless = coding is None and b"content-length" not in names
        if method == b"CONNECT" or (self.parser.should_upgrade() and not bodiless):
            self._stop(400, "this server neither upgrades connections with a body nor connects to others")

    def _cut(self) -> None:
        """End at once; the kernel shall not go on sending what waits either."""
        if (sock := self.transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _discard(self, length: int) -> None:
        """Read on for a while after the end, but no flood."""
        self._discarded_bytes += length
        if self._discarded_bytes > LINGER_BYTES:
            self._reads_on = False
            self.flow.pause_reading()

    def _rest_if_answered(self) -> None:
        """Begin the time for which a connection may be idle, where the answer came before the body's end."""
        answered = self._phase == "idle" and self.cycle is not None and self.cycle.response_complete
        if answered and self._ends_at is None and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _stop(self, status: int, message: str) -> None:
        """Leave the parser; ``data_received`` refuses with this status and message."""
        self._refusal = (status, message)
        raise _Refusal(message)

    def _ignore_the_rest(self) -> None:
        """A client asked for another protocol, and is served this one: once, since the parser ends here."""
        self._phase = "idle"
        if self.cycle is not None:
            self.cycle.keep_alive = False
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def _body_stalls(self, now: float) -> bool:
        limits, cycle = self.door.limits, self.cycle
        if self.flow.read_paused or cycle.body:
            # It is we who do not read.
            self._since += now - self._progress
            self._progress = now
        waited, stalled = now - self._since, now - self._progress
        slow = waited > limits.body_stall_seconds and self._body_bytes < limits.body_bytes_per_second * waited
        return slow or stalled > limits.body_stall_seconds

    def _write_stalls(self, now: float) -> bool:
        if not self.flow.write_paused:
            self._write_stalled = None
        elif self._write_stalled is None:
            self._write_stalled = now
        return (
            self._write_stalled is not None
            and now - self._write_stalled > self.door.limits.write_stall_seconds
        )

    def _too_long_headers(self) -> str:
        limits = self.door.limits
        return f"the headers are over {limits.header_limit_bytes} bytes or {limits.header_limit_count} lines"

    def _refuse(self, status: int, message: str, reason: str) -> None:
        """Answer, unless another answer is on its way, and let the connection end."""
        REFUSED.labels(reason).inc()
        self._ends_at = self.loop.time() + LINGER_SECONDS
        self.flow.resume_reading()
        self.pipeline.clear()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.waiting_for_100_continue = False
            cycle.message_event.set()
        self.transport.write(_answer(status, message))
        if not self._admitted:
            self.transport.close()
        elif self.transport.can_write_eof():
            self.transport.write_eof()


def _answer(status: int, message: str) -> bytes:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "bad_http"}
    body = json.dumps({"error": error}).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def guarded(door: Door) -> type[GuardedProtocol]:
    """The protocol of one listener, for ``uvicorn.Config(http=…)``."""
    return type("ListenerProtocol", (GuardedProtocol,), {"door": door})
