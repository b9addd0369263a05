"""What both servers do with every request before any route is looked up: one rule for slashes at the end of a
path, HEAD as GET without its body, and browsers' questions about other origins (CORS)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http import HTTPMethod, HTTPStatus
from typing import Any

from common.errors import ComputilityError, MethodNotAllowed, UnsupportedMediaType

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

ANY_ORIGIN = "*"
PREFLIGHT_SECONDS = 600
"""For which a browser may remember what it was told."""
_METHODS = b"GET, HEAD, POST, PUT, DELETE"
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,2048}")
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
UNBUFFERED: Headers = [(b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
"""Headers of an answer that comes in parts: no proxy shall hold it back or keep it."""


class Front:
    """ASGI application around another. ``cors_origins`` may call it from browsers; empty = none.

    Credentials of browsers (cookies) are never allowed: keys are given in a header, by who has them.
    """

    def __init__(self, app: App, cors_origins: Sequence[str]) -> None:
        self._app = app
        self._any = ANY_ORIGIN in cors_origins
        self._origins = frozenset(origin.encode() for origin in cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = header_of(scope, b"origin") if self._origins else b""
        if origin:
            if scope["method"] == HTTPMethod.OPTIONS and header_of(scope, b"access-control-request-method"):
                await self._preflight(scope, origin, send)
                return
            send = _adding(send, self._allowance(origin))
        scope = _without_slashes(scope)
        if scope["method"] == HTTPMethod.HEAD:
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        await self._app(scope, receive, send)

    def _allows(self, origin: bytes) -> bool:
        return self._any or origin in self._origins

    def _allowance(self, origin: bytes) -> Headers:
        """The headers that let a page of ``origin`` read an answer."""
        vary = [] if self._any else [(b"vary", b"origin")]
        if not self._allows(origin):
            return vary
        allowed = ANY_ORIGIN.encode() if self._any else origin
        return [(b"access-control-allow-origin", allowed), (b"access-control-expose-headers", b"*"), *vary]

    async def _preflight(self, scope: Scope, origin: bytes, send: Send) -> None:
        """A browser asks, without a key, what it may send with one."""
        allowed = self._allows(origin)
        headers = self._allowance(origin)
        asked = header_of(scope, b"access-control-request-headers")
        if allowed:
            headers.append((b"access-control-allow-methods", _METHODS))
            headers.append((b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()))
            if _HEADER_NAMES.fullmatch(asked):
                headers.append((b"access-control-allow-headers", asked))
        status = HTTPStatus.NO_CONTENT if allowed else HTTPStatus.FORBIDDEN
        if not allowed:
            headers.append((b"content-length", b"0"))
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def header_of(scope: Scope, name: bytes) -> bytes:
    """The first value of a request's header; empty where it is not given."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""


def headers_of(error: ComputilityError) -> list[tuple[str, str]]:
    """What an answer says beside the error: what would have been taken."""
    if isinstance(error, MethodNotAllowed):
        more = {"HEAD"} if "GET" in error.allowed else set()
        return [("allow", ", ".join(sorted({*error.allowed, *more})))]
    return [error.accepts] if isinstance(error, UnsupportedMediaType) else []


def _without_slashes(scope: Scope) -> Scope:
    """A path means the same with slashes at its end; one that is percent-encoded belongs to a name."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    kept = raw.rstrip(b"/") or b"/"
    cut = len(raw) - len(kept)
    if not cut:
        return scope
    return {**scope, "raw_path": kept, "path": scope["path"][:-cut]}


def _adding(send: Send, headers: Headers) -> Send:
    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return adding


def _without_body(send: Send) -> Send:
    """The answer ends with its headers; what the application says after them goes nowhere."""
    ended = False

    async def sending(message: Message) -> None:
        nonlocal ended
        if ended:
            return
        await send(message)
        if message["type"] == "http.response.start":
            ended = True
            await send({"type": "http.response.body", "body": b""})

    return sending
