"""One request on a connection, and its answer: what applications of a server read from and write to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.http_server.protocol import HttpProtocol

KEPT_BYTES = 64 * 1024
"""So much of a body is kept for an application that does not read; then the client has to wait."""
Headers = list[tuple[bytes, bytes]]
_STATUS_LINES = {
    int(status): b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}
_BODILESS = frozenset((204, 304))
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ENDS_HERE, _IN_CHUNKS = b"connection: close\r\n", b"transfer-encoding: chunked\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


def asks_first(headers: Headers) -> bool:
    """Whether the client waits for a word before it sends the body."""
    for name, value in headers:  # noqa: SIM110 - a generator takes three times as long
        if name == b"expect" and value.lower() == b"100-continue":
            return True
    return False


class ClientGone(Exception):
    """The client closed the connection before its request was read whole."""


class Request:
    """``target`` is path and query as they came, ``headers`` have names in lower case. ``is_whole``: all of
    the body has come; ``is_gone``: the client has left, or was shown out. ``keeps``: whether another request
    may follow on the connection."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_first",
        "_kept_bytes",
        "_left_bytes",
        "_on_gone",
        "_parts",
        "_waiter",
        "ended",
        "expects",
        "headers",
        "is_gone",
        "is_old",
        "is_whole",
        "keeps",
        "method",
        "started",
        "target",
    )

    def __init__(
        self, connection: HttpProtocol, method: bytes, target: bytes, headers: Headers, is_old: bool
    ) -> None:
        self.method, self.target, self.headers = method, target, headers
        self.is_old = is_old
        """HTTP/1.0: an answer of unknown length ends with the connection."""
        self.is_whole = self.is_gone = self.started = self.ended = False
        self.keeps = True
        self.expects = False
        """The client waits for a word before it sends the body."""
        self._connection = connection
        self._parts: list[bytes] = []
        self._kept_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._on_gone: Callable[[], None] | None = None
        self._chunked = False
        self._first = b""
        """What goes out with the head."""
        self._left_bytes: int | None = None

    # What an application does

    async def read(self) -> bytes:
        """What has come of the body since, at least a byte; empty at its end. Raises ``ClientGone`` when it
        breaks off."""
        if self.expects and not self.is_gone:
            self.expects = False
            self._connection.send(_CONTINUE)
        while not self._parts:
            if self.is_whole:
                return b""
            if self.is_gone or self.ended:
                raise ClientGone
            self._connection.read_on()
            await self._wait()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._kept_bytes = 0
        return data

    def read_now(self) -> bytes | None:
        """All of the body where it has come and nothing of it was read; else None, and nothing is read."""
        if not self.is_whole or self.expects or self.is_gone:
            return None
        data = b"".join(self._parts)
        self._parts.clear()
        self._kept_bytes = 0
        return data

    def when_gone(self, told: Callable[[], None] | None) -> None:
        """Call ``told`` when the client leaves before its answer has ended; None: nobody any more."""
        self._on_gone = told
        if told is None:
            return
        if self.is_gone:
            told()
        else:
            self._connection.read_on()  # else its leaving would not be seen

    async def over(self) -> None:
        """Return when the client has gone, or has its answer."""
        while not (self.is_gone or self.ended):
            self._connection.read_on()
            await self._wait()

    def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """Send all of an answer; ``lines`` are those of its headers less its length."""
        lines += b"content-length: %d\r\n" % len(body)
        self._first = body if self.method != b"HEAD" else b""
        self.start(status, lines, 0)
        self.write(b"", more=False)

    def start(self, status: int, lines: bytes, length: int | None) -> None:
        """Send the status and ``lines``, each with its end, which say ``content-length`` themselves where
        ``length`` is not None; a body of unknown length is sent in parts."""
        self.started = True
        self.expects = False
        bodiless = self.method == b"HEAD" or status in _BODILESS
        self._left_bytes = 0 if bodiless else length
        head = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, self._connection.date(), lines]
        if length is None and not bodiless:
            if self.is_old:
                self.keeps = False
            else:
                self._chunked = True
                head.append(_IN_CHUNKS)
        if not self.keeps:
            head.append(_ENDS_HERE)
        head.append(b"\r\n")
        head.append(self._first)
        self._connection.send(b"".join(head))

    def write(self, data: bytes, more: bool = True) -> None:
        """Send a part of the body. Raises ``ValueError`` where it is longer or, at the end, shorter than was
        said."""
        if self.method == b"HEAD":
            data = b""
        if self._left_bytes is not None:
            self._left_bytes -= len(data)
            if self._left_bytes < 0 or (not more and self._left_bytes):
                raise ValueError("the body is not as long as its header says")
        elif self._chunked:
            if data:
                data = b"%x\r\n%b\r\n" % (len(data), data)
            if not more:
                data += _LAST_CHUNK
        if data:
            self._connection.send(data)
        if not more:
            self.ended = True
            self._wake()
            self._connection.answered(self)

    async def drained(self) -> None:
        """Return when the client has taken so much of the answer that there is room for more."""
        await self._connection.drained()

    # What its connection does

    def came(self, data: bytes) -> None:
        """A part of the body."""
        self._parts.append(data)
        self._kept_bytes += len(data)
        if self._kept_bytes > KEPT_BYTES:
            self._connection.hold_on()
        self._wake()

    def came_whole(self) -> None:
        self.is_whole = True
        self._wake()

    def lose(self) -> None:
        """The client has gone."""
        if self.ended or self.is_gone:
            return
        self.is_gone = True
        self._wake()
        if self._on_gone is not None:
            self._on_gone()

    @property
    def has_unread(self) -> bool:
        """Whether the application has not read what has come."""
        return bool(self._parts)

    async def _wait(self) -> None:
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
