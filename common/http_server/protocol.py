"""HTTP/1.1 on one connection, with limits on all that a client can make long or slow.

Framing has one reading: a request that another server could understand otherwise is refused. What came whole
before it has its answer first, in order. A connection that has been refused is read on for a moment, so that
the client gets to see why.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from common.http_server.door import REFUSED, Door
from common.http_server.refusal import Refusal, bad_framing, farewell, too_long_headers
from common.http_server.request import Headers, Request, asks_first
from common.http_server.running import Answer, Run

LINGER_SECONDS = 2.0
LINGER_BYTES = 4 * 1024**2
_BEHIND = (-1, -1)
"""The headers have begun in one read with the end of the request before."""
_BAD_REQUEST = Refusal(400, "this is no valid HTTP request")

Direct = Callable[[Request], Callable[[Request], Awaitable[None]] | None]
"""Says what answers a request without ASGI; None: the application does."""


class HttpProtocol(asyncio.Protocol):
    """One connection. ``door`` and ``direct`` are set by ``guarded``."""

    door: Door
    direct: Direct | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.loop = _loop or asyncio.get_running_loop()
        self.server = server_state
        self._run = Run(config, app_state, server_state.tasks, self.direct)
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._transport: asyncio.Transport | None = None
        self._admitted = False
        self._held = False
        self._writable: asyncio.Event | None = None
        # What is being read
        self._phase = "new"
        self._since = self._progress = 0.0
        self._header_bytes = self._unfinished_bytes = self._body_bytes = 0
        self._lines_told: tuple[int, int] | None = None
        self._target = b""
        self._headers: Headers = []
        self._reading: Request | None = None
        # What is being answered, and what waits for its turn
        self._current: Request | None = None
        self._waiting: deque[tuple[Request, Answer]] = deque()
        # The end
        self._refusal = _BAD_REQUEST
        self._farewell = b""
        self._is_last = False
        self._reads_on = False
        self._ends_at: float | None = None
        self._discarded_bytes = 0
        self._write_stalled: float | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.server.connections.add(self)  # type: ignore[arg-type]
        self._since = self.loop.time()
        self._admitted = self.door.admit(self, self._run.meets(self._transport))
        if not self._admitted:
            self._refuse(Refusal(503, "too many connections; try again in a moment"), "connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.leave(self)
        self.server.connections.discard(self)
        self._transport = None
        self._run.end()
        self.resume_writing()
        for request in (self._current, *(one for one, _ in self._waiting)):
            if request is not None:
                request.lose()
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._farewell or self._is_last or self._ends_at is not None:
            self._discard(len(data))
            if not self._reads_on:
                return
        if self._phase in ("new", "idle"):
            self._begin_header()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._ignore_the_rest()
        except httptools.HttpParserError:
            if self._reads_on:
                self._reads_on = False  # what is wrong belongs to a request that has its answer
            elif not self._is_last:
                self._refuse(self._refusal, "malformed")
        if self._phase == "header" and not (self._farewell or self._is_last or self._ends_at is not None):
            self._count_unfinished(data)
            if self._header_bytes + self._unfinished_bytes > self.door.limits.header_limit_bytes:
                self._refuse(too_long_headers(self.door.limits), "headers")

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None
            self._write_stalled = None

    # What the door and the server ask

    def check(self, now_seconds: float) -> None:
        """End the connection where its client took too long."""
        transport, limits, waited = self._transport, self.door.limits, now_seconds - self._since
        if transport is None:
            return
        if self._ends_at is not None:
            if now_seconds >= self._ends_at:
                transport.abort()
        elif self._write_stalls(now_seconds):
            REFUSED.labels("slow-reader").inc()
            self._cut(transport)
        elif self._phase == "new" and waited > limits.header_seconds:
            REFUSED.labels("silent").inc()
            transport.abort()
        elif self._farewell or self._is_last:
            pass  # an answer is on its way, after which the connection ends
        elif self._phase == "idle" and self._current is None and waited > limits.idle_seconds:
            transport.close()
        elif self._phase == "header" and waited > limits.header_seconds:
            self._refuse(Refusal(408, "the headers took too long to arrive"), "slow-headers")
        elif self._phase == "body" and self._body_stalls(now_seconds):
            self._refuse(Refusal(408, "the body took too long to arrive"), "slow-body")

    def shutdown(self) -> None:
        """The server ends: idle connections at once, others with their answer."""
        if self._transport is None:
            return
        if self._ends_at is not None:
            self._transport.abort()
        elif self._current is None:
            self._transport.close()
        else:
            self._current.keeps = False

    def has_client(self) -> bool:
        """Whether the client is there."""
        return self._transport is not None

    # What a request asks

    def date(self) -> bytes:
        """The lines that all answers have, the time among them."""
        return self._run.common_lines(self.server.default_headers)

    def send(self, data: bytes) -> None:
        """To the client; to one that has gone, nowhere."""
        if self._transport is not None:
            self._transport.write(data)

    async def drained(self) -> None:
        """Return when there is room for more."""
        while self._writable is not None:
            await self._writable.wait()

    def hold_on(self) -> None:
        """Read nothing more until ``read_on``."""
        if not self._held and self._transport is not None and not self._transport.is_closing():
            self._held = True
            self._transport.pause_reading()

    def read_on(self) -> None:
        if self._held and self._transport is not None and not self._transport.is_closing():
            self._held = False
            self._transport.resume_reading()

    def fail(self, request: Request) -> None:
        """What answers has ended without the end of an answer."""
        if request.ended or request.is_gone or self._transport is None:
            return
        if request.started:
            self._transport.close()
        else:
            request.keeps = False
            request.answer(500, b"content-type: text/plain; charset=utf-8\r\n", b"Internal Server Error")

    def answered(self, request: Request) -> None:
        """An answer has ended: the next one begins, or the connection may be idle."""
        self.server.total_requests += 1
        self._current, transport = None, self._transport
        if transport is None or transport.is_closing():
            return
        if not request.keeps:
            self._waiting.clear()
            transport.close()
            return
        self.read_on()
        if self._waiting:
            self._begin(*self._waiting.popleft())
        elif self._farewell:
            self._say_farewell()
        elif self._phase == "body" and self._reading is request and self._ends_at is None:
            # The answer did not need the body, which is still on its way. Where it comes soon the connection
            # goes on; not where the client asked whether to send it, since then it may never come.
            self._ends_at = self.loop.time() + LINGER_SECONDS
            self._reads_on = not self._asked_first
        else:
            self._since = self.loop.time()

    # httptools

    def on_message_begin(self) -> None:
        if self._is_last:
            raise _Stop
        if self._phase != "header":
            self._begin_header()
            self._lines_told = _BEHIND
        self._target, self._headers = b"", []
        if len(self._waiting) > self.door.limits.max_pipelined:
            self._stop(400, "too many requests wait on this connection")

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self.door.limits.url_limit_bytes:
            self._stop(414, f"path and query are over {self.door.limits.url_limit_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase != "header":
            return  # A trailer: what is said after the body changes nothing of the request.
        self._headers.append((name.lower(), value))
        self._header_bytes += len(name) + len(value) + 4
        limits = self.door.limits
        if self._header_bytes > limits.header_limit_bytes or len(self._headers) > limits.header_limit_count:
            self._refusal = too_long_headers(limits)
            raise _Stop

    def on_headers_complete(self) -> None:
        parser = self._parser
        version, method = parser.get_http_version(), parser.get_method()
        refusal = bad_framing(method, version, self._headers, parser.should_upgrade())
        if refusal is not None:
            self._refusal = refusal
            raise _Stop
        request = Request(self, method, self._target, self._headers, version == "1.0")
        request.keeps = version == "1.1" and parser.should_keep_alive()
        self._asked_first = request.expects = asks_first(self._headers)
        answer = self._run.answer_of(request)
        self._reading, self._phase, self._body_bytes = request, "body", 0
        self._since = self._progress = self.loop.time()
        if self._current is None:
            self._begin(request, answer)
        else:
            self._waiting.append((request, answer))

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._progress = self.loop.time()
        if self._reading is not None and not self._reading.ended:
            self._reading.came(body)

    def on_message_complete(self) -> None:
        self._phase, self._header_bytes = "idle", 0
        request, self._reading = self._reading, None
        if self._reads_on:
            self._reads_on, self._ends_at, self._discarded_bytes = False, None, 0
            self._since = self.loop.time()
        if request is not None:
            self._is_last = not request.keeps
            request.came_whole()

    # What these have in common

    _asked_first = False

    def _begin(self, request: Request, answer: Answer) -> None:
        self._current = request
        self._run.begin(request, answer, self)

    def _begin_header(self) -> None:
        if self._phase != "header":
            self._phase, self._since, self._header_bytes = "header", self.loop.time(), 0
            self._lines_told = None

    def _count_unfinished(self, data: bytes) -> None:
        """Count what the parser has not told of yet: a line without an end, or empty lines."""
        told = len(self._headers), len(self._target)
        if told == self._lines_told:
            self._unfinished_bytes += len(data)
        elif self._lines_told == _BEHIND:
            self._unfinished_bytes = 0
        else:
            self._unfinished_bytes = len(data) - 1 - data.rfind(b"\n")
        self._lines_told = told

    def _cut(self, transport: asyncio.Transport) -> None:
        """End at once; the kernel shall not go on sending what waits either."""
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def _discard(self, length: int) -> None:
        """Read on for a while after the end, but no flood."""
        self._discarded_bytes += length
        if self._discarded_bytes > LINGER_BYTES:
            self._reads_on = False
            self.hold_on()

    def _stop(self, status: int, message: str) -> None:
        """Leave the parser; ``data_received`` refuses with this status and message."""
        self._refusal = Refusal(status, message)
        raise _Stop

    def _ignore_the_rest(self) -> None:
        """A client asked for another protocol, and is served this one: once, since the parser ends here."""
        self._phase, self._is_last = "idle", True
        request, self._reading = self._reading, None
        for one in (request, self._current):
            if one is not None:
                one.came_whole()
        last = self._waiting[-1][0] if self._waiting else self._current
        if last is not None:
            last.keeps = False

    def _body_stalls(self, now: float) -> bool:
        limits, request = self.door.limits, self._reading
        if self._held or (request is not None and request.has_unread):
            # It is we who do not read.
            self._since += now - self._progress
            self._progress = now
        waited, stalled = now - self._since, now - self._progress
        slow = waited > limits.body_stall_seconds and self._body_bytes < limits.body_bytes_per_second * waited
        return slow or stalled > limits.body_stall_seconds

    def _write_stalls(self, now: float) -> bool:
        if self._writable is None:
            return False
        if self._write_stalled is None:
            self._write_stalled = now
        return now - self._write_stalled > self.door.limits.write_stall_seconds

    def _refuse(self, refusal: Refusal, reason: str) -> None:
        """Say so once what came before has its answer, and let the connection end."""
        REFUSED.labels(reason).inc()
        self._farewell = farewell(refusal)
        request, self._reading = self._reading, None
        if request is not None and not request.ended:
            if request is self._current and request.started:
                request.keeps = False
                self._ends_at = self.loop.time() + LINGER_SECONDS
                return
            request.lose()
            self._waiting = deque(one for one in self._waiting if one[0] is not request)
            if request is self._current:
                self._current = None
        if self._current is None:
            self._say_farewell()

    def _say_farewell(self) -> None:
        transport = self._transport
        if transport is None:
            return
        self._ends_at = self.loop.time() + LINGER_SECONDS
        self.read_on()
        transport.write(self._farewell)
        if not self._admitted:
            transport.close()
        elif transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                transport.write_eof()


class _Stop(Exception):
    """Ends the parsing of a request."""


def guarded(door: Door, direct: Direct | None = None) -> type[HttpProtocol]:
    """The protocol of one listener, for ``uvicorn.Config(http=…)``."""
    own = {"door": door, "direct": None if direct is None else staticmethod(direct)}
    return type("ListenerProtocol", (HttpProtocol,), own)
