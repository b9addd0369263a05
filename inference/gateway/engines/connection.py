"""One connection to an engine: HTTP/1.1, one request after the other, answers as they arrive.

Made for the request path alone, where a client library of the general kind took a third of all time that the
gateway spends on a request. What an engine says is parsed by llhttp (``httptools``); what is wrong there ends
the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

HEADER_LIMIT_BYTES = 64 * 1024
KEPT_BYTES = 256 * 1024
"""So much of an answer is kept for a reader who does not come; then the engine has to wait."""
_BODILESS = frozenset((204, 304))


class TransportFailed(ConnectionError):
    """An engine did not take a request, or did not answer it to the end."""


class Unreachable(TransportFailed):
    """There was no connection, so that nothing was sent."""


class Disconnected(TransportFailed):
    """The connection broke."""


class Silent(TransportFailed, TimeoutError):
    """Nothing came for too long."""


class Malformed(TransportFailed):
    """What came is no answer, or it ended before its end."""


class Answer:
    """An answer that arrives. ``status`` and ``headers`` (names in lower case) are there once ``begun`` has
    returned."""

    def __init__(self, connection: Connection, silence_seconds: float) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._connection = connection
        self._loop = connection.loop
        self._silence_seconds = silence_seconds
        self._last_seconds = self._loop.time()
        self._parts: list[bytes] = []
        self._kept_bytes = 0
        self._ended = False
        self._paused = False
        self._trouble: TransportFailed | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def begun(self) -> None:
        """Return when status and headers are there. Raises ``TransportFailed``."""
        while not self.status:
            await self._wait()

    async def readany(self) -> bytes:
        """What has arrived of the body, at least a byte; empty at its end. Raises ``TransportFailed``."""
        while not self._parts:
            if self._ended:
                return b""
            await self._wait()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._kept_bytes = 0
        if self._paused:
            self._paused = False
            self._last_seconds = self._loop.time()
            self._connection.resume()
        return data

    def close(self) -> None:
        """Give the connection back, or end it where the answer has not come whole. Safe to repeat."""
        if not self._ended and self._trouble is None:
            self._trouble = Disconnected("the answer was given up")
            self._connection.abort()

    # Called by the connection

    def headers_came(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status, self.headers = status, headers
        self._wake()

    def body_came(self, data: bytes) -> None:
        self._parts.append(data)
        self._kept_bytes += len(data)
        if self._kept_bytes > KEPT_BYTES and not self._paused:
            self._paused = True
            self._connection.pause()
        self._wake()

    def came(self) -> None:
        """A sign of life."""
        self._last_seconds = self._loop.time()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def fail(self, trouble: TransportFailed) -> None:
        if not self._ended and self._trouble is None:
            self._trouble = trouble
            self._wake()

    async def _wait(self) -> None:
        if self._trouble is not None:
            raise self._trouble
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def left_seconds(self) -> float | None:
        """How long nothing may come from now on, before it is given up; None once it has ended."""
        if self._ended or self._trouble is not None:
            return None
        now = self._loop.time()
        if self._paused:
            self._last_seconds = now
        return self._last_seconds + self._silence_seconds - now

    def give_up(self) -> None:
        """Nothing has come for too long."""
        self.fail(Silent("the engine said nothing for too long"))
        self._connection.abort()


class SilenceTimer:
    """One timer for all answers of a connection, which looks again when it would have been set again: to set
    and cancel one for each answer takes longer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._answer: Answer | None = None
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, answer: Answer, seconds: float) -> None:
        """Give the answer up when nothing comes for so long."""
        self._answer = answer
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._look)

    def end(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        left_seconds = self._answer.left_seconds() if self._answer is not None else None
        if self._answer is None or left_seconds is None:
            self._answer = None
        elif left_seconds > 0:
            self._timer = self._loop.call_later(left_seconds, self._look)
        else:
            self._answer.give_up()


class Connection(asyncio.Protocol):
    """``on_free`` is called when an answer has come whole and the engine keeps the connection, which was at
    ``idle_seconds``. ``on_end`` is called when the connection is gone."""

    def __init__(self, on_free: Callable[[Connection], None], on_end: Callable[[Connection], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.idle_seconds = 0.0
        self._on_free, self._on_end = on_free, on_end
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._to_the_end = False
        self._silence = SilenceTimer(self.loop)

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes, body: bytes, silence_seconds: float) -> Answer:
        """Send a request; its answer arrives."""
        assert self._transport is not None
        answer = self._answer = Answer(self, silence_seconds)
        self._headers, self._header_bytes, self._to_the_end = {}, 0, False
        self._transport.writelines((request, body))
        self._silence.watch(answer, silence_seconds)
        return answer

    def abort(self) -> None:
        """End the connection; an engine sees that its client is gone."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.abort()  # nobody asked
            return
        self._answer.came()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._answer is not None:
                self._answer.fail(Malformed(f"the engine's answer is no HTTP: {error}"))
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        answer, self._answer, self._transport = self._answer, None, None
        self._silence.end()
        self._on_end(self)
        if answer is None:
            return
        if self._to_the_end and error is None:
            answer.end()
        elif answer.status:
            answer.fail(Malformed("the engine broke off its answer"))
        else:
            answer.fail(Disconnected("the engine closed the connection"))

    # httptools

    def on_message_begin(self) -> None:
        if self._answer is None:
            raise ValueError("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_LIMIT_BYTES:
            raise ValueError("the headers are too long")
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        headers = self._headers
        chunked = headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        self._to_the_end = not (chunked or b"content-length" in headers or status in _BODILESS)
        if self._answer is not None:
            self._answer.headers_came(status, headers)

    def on_body(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer.body_came(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            self._headers, self._header_bytes = {}, 0  # what it says first is no answer yet
            return
        answer, self._answer = self._answer, None
        keeps = self._parser.should_keep_alive() and not self._to_the_end
        if answer is not None:
            answer.end()
        if keeps and self.is_open:
            self.idle_seconds = self.loop.time()
            self._on_free(self)
        elif self._transport is not None:
            self._transport.close()
