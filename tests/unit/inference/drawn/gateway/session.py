"""A client session whose answers are drawn, and which keeps all that it is asked in full."""

import asyncio
import json
import random
from collections.abc import Callable, Generator, Sequence
from typing import Any

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict

from inference.gateway.engines.connection import Disconnected, Malformed, Silent, Unreachable

Draw = Callable[[str, str, dict[str, Any]], "Reply | BaseException"]


class Content:
    """The body of an answer, in parts; it may break off."""

    def __init__(self, parts: Sequence[bytes | BaseException]) -> None:
        self._parts = list(parts)

    async def readany(self) -> bytes:
        part = self._parts.pop(0) if self._parts else b""
        if isinstance(part, BaseException):
            raise part
        return part

    async def read(self, most: int = -1) -> bytes:
        part = await self.readany()
        if 0 <= most < len(part):
            self._parts.insert(0, part[most:])
        return part[:most] if most >= 0 else part

    async def iter_any(self) -> Any:
        while part := await self.readany():
            yield part


class Reply:
    """An answer, or the failure to get one."""

    def __init__(
        self,
        status: int = 200,
        parts: Sequence[bytes | BaseException] = (),
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.status, self.content, self.closed = status, Content(parts), 0
        self.headers: CIMultiDict[str] = CIMultiDict(headers)
        self.read_whole = False

    async def readany(self) -> bytes:
        """As of an engine."""
        return await self.content.readany()

    async def read(self) -> bytes:
        self.read_whole = True
        content = b""
        while part := await self.content.readany():
            content += part
        return content

    async def text(self) -> str:
        return (await self.read()).decode()

    async def json(self) -> Any:
        return json.loads(await self.read())

    def raise_for_status(self) -> None:
        if self.status >= 400:
            raise aiohttp.ClientError(f"status {self.status}")

    def close(self) -> None:
        self.closed += 1


class _Request:
    """What ``session.post`` gives: waited for, or entered."""

    def __init__(self, answer: Reply | BaseException) -> None:
        self._answer = answer

    async def _come(self) -> Reply:
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    def __await__(self) -> Generator[Any, None, Reply]:
        return self._come().__await__()

    async def __aenter__(self) -> Reply:
        return await self._come()

    async def __aexit__(self, *_: object) -> None:
        if isinstance(self._answer, Reply):
            self._answer.close()


class Session:
    """``asked`` is all that it was asked, in full, a line each."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self.asked: list[str] = []
        self.given: list[Reply] = []

    def request(self, method: str, url: Any, **options: Any) -> Any:
        named = ", ".join(f"{name}={_plain(options[name])}" for name in sorted(options))
        self.asked.append(f"{method} {url} {named}")
        answer = self._draw(method, str(url), options)
        if isinstance(answer, Reply):
            self.given.append(answer)
        return _Request(answer)

    def get(self, url: str, **options: Any) -> Any:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> Any:
        return self.request("POST", url, **options)


class Engines:
    """The same for a client of engines."""

    def __init__(self, draw: Draw) -> None:
        self._session = Session(draw)
        self.asked, self.given = self._session.asked, self._session.given

    def post(self, url: str, body: bytes = b"", headers: Any = None) -> Any:
        return self._session.request("POST", url, data=body, headers=headers)

    def asking(self, method: str, url: str, seconds: float, body: bytes = b"", headers: Any = None) -> Any:
        return self._session.request(method, url, data=body, headers=headers, seconds=seconds)


def broken_engine(rng: random.Random) -> BaseException:
    """How a request to an engine may fail."""
    return rng.choice((Unreachable("refused"), Disconnected("gone"), Silent("slow"), Malformed("cut")))


def _plain(value: Any) -> str:
    return str(list(value.items())) if isinstance(value, CIMultiDict) else str(value)


def broken(rng: random.Random) -> BaseException:
    """How a request may fail."""
    key = ConnectionKey("r", 80, is_ssl=False, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)
    return rng.choice(
        (
            aiohttp.ClientConnectorError(key, OSError(111, "refused")),
            aiohttp.ServerDisconnectedError(),
            aiohttp.ConnectionTimeoutError(),
            aiohttp.SocketTimeoutError(),
            aiohttp.ClientPayloadError("cut"),
            TimeoutError(),
            OSError(5, "odd"),
        )
    )


class Ended(BaseException):
    """Ends a loop that would go on for ever."""


def pauses(lines: list[str], most: int) -> Callable[[float], Any]:
    """In the place of ``asyncio.sleep``: notes pauses, and ends the loop after so many."""

    async def sleep(seconds: float) -> None:
        lines.append(f"a pause of {seconds:g} s")
        if sum(line.startswith("a pause of") for line in lines) >= most:
            raise Ended

    return sleep


class Paused:
    """``asyncio`` with another sleep."""

    def __init__(self, sleep: Callable[[float], Any]) -> None:
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)
