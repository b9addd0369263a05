"""One HTTP request and its response, on bare ASGI; ``direct.py`` has those of the hot paths."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

from common.errors import (
    BudgetSpent,
    ComputilityError,
    NotAwake,
    TooLarge,
    TooManyRequests,
    mapping_of,
)
from common.http_server.content import decoded
from common.http_server.front import NO_SNIFFING, headers_of
from common.http_server.request import ClientGone
from common.ids import new_id
from inference.core.apis.wires import error_body_of

if TYPE_CHECKING:
    from inference.gateway.tracing.request import RequestTrace

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_DISCARD_FACTOR = 4
RETRY_AFTER_SECONDS = 2


class Exchange:
    """What a handler reads from and answers to. ``started`` is True once the status line is on its way.
    ``pairs`` are all headers, also those of one name; ``head`` are further headers of the answer; ``on_end``
    is told once whether a stream broke; ``trace`` is None where requests are not traced."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._asks(scope["method"], scope["path"], scope["headers"])
        self.scope = scope
        self._receive = receive
        self._send = send

    def _asks(self, method: str, path: str, pairs: list[tuple[bytes, bytes]]) -> None:
        self.method, self.path, self.pairs = method, path, pairs
        self.headers: dict[bytes, bytes] = dict(pairs)
        self.request_id = _request_id(self.headers.get(b"x-request-id", b""))
        self.started = False
        self.status = 0
        self.model = ""
        self.head: dict[bytes, bytes] = {}
        self.on_end: Callable[[bool], None] | None = None
        self.trace: RequestTrace | None = None
        self.error_body = error_body_of(path)

    def credentials(self) -> bytes:
        """The key that is shown, as the value of an ``authorization`` header; empty where none is."""
        shown = self.headers.get(b"authorization", b"")
        if not shown and (key := self.headers.get(b"x-api-key", b"")):
            return b"Bearer " + key
        return shown

    async def read_body(
        self, limit_bytes: int, keep: Callable[[int], Awaitable[None]] | None = None
    ) -> bytes:
        """The whole body. Raises ``TooLarge`` over the limit (having discarded the rest, within reason).

        ``keep`` is told the size of each part before it is kept, and may wait or raise.
        """
        self._decode(limit_bytes)
        chunks: list[bytes] = []
        size = 0
        async for chunk in self.body_chunks():
            size += len(chunk)
            if size <= limit_bytes:
                if keep is not None:
                    await keep(len(chunk))
                chunks.append(chunk)
            elif size > limit_bytes * _DISCARD_FACTOR:
                break
        if size > limit_bytes:
            raise TooLarge(f"the body is over the limit of {limit_bytes} bytes")
        return b"".join(chunks)

    def body_at_hand(self) -> bytes | None:
        """All of the body where it has come by now; else None, and it is to be read."""
        return None

    def _decode(self, limit_bytes: int) -> None:
        """Undo the body's coding while it is read."""
        self._receive = decoded(self._receive, self.headers.get(b"content-encoding", b""), limit_bytes)

    async def body_chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises ``ClientGone`` when it breaks off."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            if chunk := message.get("body", b""):
                yield chunk

    async def disconnected(self) -> None:
        """Return when the client has closed the connection. Only after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def when_gone(self, told: Callable[[], None]) -> Callable[[], object]:
        """Call ``told`` when the client has closed the connection, unless what is returned was called before.
        Only after the body was read."""

        async def watch() -> None:
            await self.disconnected()
            told()

        return asyncio.create_task(watch()).cancel

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send status line and headers; the request id is added."""
        self.started = True
        self.status = status
        named = [*headers, *self.head.items(), NO_SNIFFING, (b"x-request-id", self.request_id.encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": named})

    async def write(self, data: bytes, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def respond(
        self, status: int, body: bytes, content_type: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """A whole response at once."""
        length = str(len(body)).encode()
        await self.start(status, [(b"content-type", content_type), (b"content-length", length), *headers])
        await self.write(body, more=False)

    async def respond_json(
        self, status: int, content: Any, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        await self.respond(status, json.dumps(content).encode(), b"application/json", headers)

    async def respond_error(self, error: ComputilityError) -> None:
        """The error in the shape of the path's API, with the headers that tell clients whether to retry."""
        status = mapping_of(error).http_status
        headers = [(name.encode(), value.encode("latin-1")) for name, value in headers_of(error)]
        if status == 409 or (isinstance(error, BudgetSpent) and not error.passes_soon):
            headers.append((b"x-should-retry", b"false"))
        if isinstance(error, TooManyRequests | NotAwake):
            headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
        elif status == 503:
            headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await self.respond_json(status, self.error_body(error), headers)


def _request_id(asked: bytes) -> str:
    return asked.decode() if _SANE_REQUEST_ID.fullmatch(asked) else new_id("req")
