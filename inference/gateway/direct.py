"""Requests of the hot paths, straight on their connection: no application interface is in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

from common.http_server.front import NO_SNIFFING
from common.http_server.request import Request
from inference.gateway.exchange import Exchange

_ON_THE_WAY = frozenset((b"origin", b"content-encoding"))
"""Headers of what takes the long way, where codings are undone and browsers are told what they may."""
_SAFE = b"%b: %b\r\n" % NO_SNIFFING


def is_plain(request: Request) -> bool:
    """Whether nothing has to be done to the request on its way."""
    for name, _ in request.headers:  # noqa: SIM110 - a generator takes three times as long
        if name in _ON_THE_WAY:
            return False
    return True


class DirectExchange(Exchange):
    """A plain POST."""

    def __init__(self, request: Request, path: str) -> None:
        self._asks("POST", path, request.headers)
        self._request = request

    def _decode(self, limit_bytes: int) -> None:
        """There is no coding."""

    def body_at_hand(self) -> bytes | None:
        return self._request.read_now()

    async def body_chunks(self) -> AsyncIterator[bytes]:
        while data := await self._request.read():
            yield data

    async def disconnected(self) -> None:
        await self._request.over()

    def when_gone(self, told: Callable[[], None]) -> Callable[[], object]:
        self._request.when_gone(told)
        return self._nobody_cares

    def _nobody_cares(self) -> None:
        self._request.when_gone(None)

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.started, self.status = True, status
        if not self._request.is_gone:
            lines = b"".join([b"%b: %b\r\n" % header for header in headers])
            self._request.start(status, lines + self._own_lines(), None)

    async def write(self, data: bytes, more: bool = True) -> None:
        request = self._request
        await request.drained()
        if not request.is_gone:
            request.write(data, more)

    async def respond(
        self, status: int, body: bytes, content_type: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        lines = b"content-type: %b\r\n" % content_type
        lines += b"".join([b"%b: %b\r\n" % header for header in headers])
        self.started, self.status = True, status
        await self._request.drained()
        if not self._request.is_gone:
            self._request.answer(status, lines + self._own_lines(), body)

    def _own_lines(self) -> bytes:
        own = b"".join([b"%b: %b\r\n" % header for header in self.head.items()]) if self.head else b""
        return b"%b%bx-request-id: %b\r\n" % (own, _SAFE, self.request_id.encode())
