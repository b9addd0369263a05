"""ASGI applications behind the server's connections."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httptools

from common.http_server.request import ClientGone, Request

Message = MutableMapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ODD_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_OWN = frozenset((b"transfer-encoding", b"connection"))
"""What the connection says itself."""


def scope_of(request: Request, connection: Message) -> Message:
    """The scope of a request. ``connection`` says what all of one connection have in common. Raises
    ``HttpParserError`` where its target is no path."""
    url = httptools.parse_url(request.target)
    raw_path = url.path or b"/"
    path = raw_path.decode("ascii")
    return {
        **connection,
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.0" if request.is_old else "1.1",
        "root_path": "",
        "method": request.method.decode("ascii"),
        "path": urllib.parse.unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": url.query or b"",
        "headers": request.headers,
    }


class Cycle:
    """What an application is given to read a request with, and to answer it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._told_end = False

    async def receive(self) -> Message:
        """Parts of the body, then, once the client has gone or has its answer, that."""
        request = self._request
        if not self._told_end:
            try:
                data = await request.read()
            except ClientGone:
                return {"type": "http.disconnect"}
            more = not request.is_whole or request.has_unread
            self._told_end = not more
            return {"type": "http.request", "body": data, "more_body": more}
        await request.over()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Raises ``RuntimeError`` for what is no part of an answer."""
        request = self._request
        await request.drained()
        if request.is_gone:
            return
        if not request.started and message["type"] == "http.response.start":
            lines, length = _rendered(message.get("headers", ()), request)
            request.start(message["status"], lines, length)
        elif request.started and not request.ended and message["type"] == "http.response.body":
            request.write(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']} is out of place")


def _rendered(headers: Any, request: Request) -> tuple[bytes, int | None]:
    """The lines of an answer's headers, and the length that they say."""
    lines, length = [], None
    for name, value in headers:
        name = name.lower()
        if _NAME.fullmatch(name) is None or _ODD_IN_VALUE.search(value) is not None:
            raise RuntimeError("a header of an answer is none")
        if name == b"content-length":
            length = int(value)
        elif name in _OWN:
            if name == b"connection" and b"close" in value.lower():
                request.keeps = False
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines), length
