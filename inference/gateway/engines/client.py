"""The gateway's client of engines: connections that are kept, and requests on them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from urllib.parse import urlsplit

from inference.gateway.engines.connection import Answer, Connection, Silent, Unreachable

IDLE_CONNECTION_SECONDS = 3.0
"""Below the 5 s after which engines close idle connections, so that no request meets a closing one."""
_SWEEP_SECONDS = 1.0

Place = tuple[str, int, bool]
"""Host, port, and whether it speaks TLS."""


class EngineClient:
    """``headers`` are sent with every request. A connection has to be there after ``connect_seconds``;
    ``silence_seconds`` may pass without a byte of an answer."""

    def __init__(self, headers: Mapping[str, str], connect_seconds: float, silence_seconds: float) -> None:
        self._headers = _lines(headers)
        self._connect_seconds = connect_seconds
        self._silence_seconds = silence_seconds
        self._idle: dict[Place, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """End all connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """An answer whose status and headers are there; it has to be closed. Raises ``TransportFailed``."""
        return await self._ask("POST", url, body, headers)

    @asynccontextmanager
    async def asking(
        self,
        method: str,
        url: str,
        seconds: float,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Answer]:
        """The same for as long as the block runs, which may take so many seconds. Raises
        ``TransportFailed``."""
        answer = None
        try:
            async with asyncio.timeout(seconds) as limit:
                answer = await self._ask(method, url, body, headers)
                yield answer
        except TimeoutError as error:
            if limit.expired():
                raise Silent("the engine took too long") from error
            raise
        finally:
            if answer is not None:
                answer.close()

    async def _ask(self, method: str, url: str, body: bytes, headers: Mapping[str, str] | None) -> Answer:
        place, host, path = _parts(url)
        head, lines = _head(method, host, path), _lines(headers) if headers else b""
        request = b"%bContent-Length: %d\r\n%b%b\r\n" % (head, len(body), self._headers, lines)
        answer = (await self._connection(place)).ask(request, body, self._silence_seconds)
        try:
            await answer.begun()
        except BaseException:
            answer.close()
            raise
        return answer

    async def _connection(self, place: Place) -> Connection:
        idle, now = self._idle.get(place, []), asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            if connection.is_open and now - connection.idle_seconds < IDLE_CONNECTION_SECONDS:
                return connection
            connection.abort()
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await self._connected(place)
        except TimeoutError as error:
            raise Unreachable("the engine takes no connection") from error
        except OSError as error:
            raise Unreachable(str(error) or type(error).__name__) from error

    async def _connected(self, place: Place) -> Connection:
        def free(connection: Connection) -> None:
            self._idle.setdefault(place, []).append(connection)
            self._sweep_later()

        connection = await self._opened(lambda: Connection(free, self._open.discard), place)
        self._open.add(connection)
        return connection

    async def _opened(self, make: Callable[[], Connection], place: Place) -> Connection:
        return await open_connection(make, place)

    def _sweep_later(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """End what has been idle for too long, so that engines do not have to."""
        self._sweeper = None
        oldest_seconds = asyncio.get_running_loop().time() - IDLE_CONNECTION_SECONDS
        for place, idle in list(self._idle.items()):
            kept = [one for one in idle if one.is_open and one.idle_seconds > oldest_seconds]
            for one in idle:
                if one not in kept:
                    one.abort()
            if kept:
                self._idle[place] = kept
            else:
                del self._idle[place]
        if self._idle:
            self._sweep_later()


async def open_connection(make: Callable[[], Connection], place: Place) -> Connection:
    """A connection to that place. Raises ``OSError``."""
    host, port, speaks_tls = place
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(make, host, port, ssl=_tls() if speaks_tls else None)
    return connection


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@lru_cache(maxsize=4096)
def _parts(url: str) -> tuple[Place, str, str]:
    """Where to connect, the header ``Host``, and the path."""
    parts = urlsplit(url)
    speaks_tls = parts.scheme == "https"
    place = (parts.hostname or "", parts.port or (443 if speaks_tls else 80), speaks_tls)
    return place, parts.netloc.rpartition("@")[2], parts.path or "/"


@lru_cache(maxsize=4096)
def _head(method: str, host: str, path: str) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n".encode()


def _lines(headers: Mapping[str, str]) -> bytes:
    """Raises ``ValueError`` for what would be more than one line."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ValueError("a header has the end of a line in it")
    return lines.encode("latin-1")
