"""What a request's body is said to be: its coding, which is undone within the limit, and its media type."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from common.errors import InvalidInput, TooLarge, UnsupportedMediaType
from common.units import format_bytes

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

CODINGS = ("gzip", "deflate")
PIECE_BYTES = 64 * 1024
_GZIP_BITS = 16 + zlib.MAX_WBITS
_UNCODED = frozenset(("", "identity"))
_ALIASES = {"x-gzip": "gzip"}


def decoded(receive: Receive, content_encoding: bytes, limit_bytes: int) -> Receive:
    """``receive`` with the body's coding undone.

    Raises ``UnsupportedMediaType`` for a coding that is not known. Reading raises ``TooLarge`` as soon as
    more than ``limit_bytes`` come out, however little went in, and ``InvalidInput`` for what is not so coded.
    """
    coding = content_encoding.decode("latin-1").strip().lower()
    coding = _ALIASES.get(coding, coding)
    if coding in _UNCODED:
        return receive
    if coding not in CODINGS:
        known = ", ".join(CODINGS)
        raise UnsupportedMediaType(
            f"Content-Encoding: {coding!r} is not known; send the body as it is, or as one of {known}",
            code="unsupported_content_encoding",
            param="Content-Encoding",
            accepts=("accept-encoding", known),
        )
    return _Decoded(receive, _Inflater(coding), limit_bytes)


class _Inflater:
    """Undoes one coding, piece by piece."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._start = b""
        self._engine = zlib.decompressobj(_GZIP_BITS) if coding == "gzip" else None
        self._fed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` adds, in pieces of at most ``PIECE_BYTES``."""
        self._fed = self._fed or bool(data)
        if self._engine is None:
            self._start += data
            if len(self._start) < 2:
                return
            self._engine, data = zlib.decompressobj(_deflate_bits(self._start)), self._start
        piece = b""
        while data or len(piece) == PIECE_BYTES:
            if self._engine.eof:
                if data:
                    raise self._wrong("something follows its end")
                return
            try:
                piece = self._engine.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise self._wrong(str(error)) from error
            data = self._engine.unconsumed_tail or self._engine.unused_data
            if piece:
                yield piece

    def end(self) -> None:
        """Raise ``InvalidInput`` where the body breaks off."""
        if self._fed and (self._engine is None or not self._engine.eof):
            raise self._wrong("it breaks off")

    def _wrong(self, reason: str) -> InvalidInput:
        return InvalidInput(
            f"the body is not {self._coding}, as Content-Encoding says: {reason}",
            code="invalid_content_encoding",
            param="Content-Encoding",
        )


def _deflate_bits(start: bytes) -> int:
    """zlib's format, as the RFC has it, or bare deflate, as some clients send."""
    is_zlib = start[0] & 0x0F == zlib.DEFLATED and int.from_bytes(start[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS


class _Decoded:
    """A ``receive`` that gives the decoded body."""

    def __init__(self, receive: Receive, inflater: _Inflater, limit_bytes: int) -> None:
        self._receive = receive
        self._inflater = inflater
        self._limit_bytes = limit_bytes
        self._taken = 0
        self._pieces: Iterator[bytes] = iter(())
        self._state = "more"

    async def __call__(self) -> Message:
        while True:
            piece = next(self._pieces, None)
            if piece is not None:
                self._taken += len(piece)
                if self._taken > self._limit_bytes:
                    raise TooLarge(f"the decoded body is over the limit of {format_bytes(self._limit_bytes)}")
                await asyncio.sleep(0)  # others shall get on between the pieces of a long body
                return {"type": "http.request", "body": piece, "more_body": True}
            if self._state == "ended":
                return await self._receive()
            if self._state == "last":
                self._inflater.end()
                self._state = "ended"
                return {"type": "http.request", "body": b"", "more_body": False}
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._pieces = self._inflater.feed(message.get("body", b""))
            self._state = "more" if message.get("more_body", False) else "last"


def require_json(content_type: str) -> None:
    """Raise ``UnsupportedMediaType`` for a body that says it is something other than JSON in UTF-8."""
    media_type, _, parameters = content_type.lower().partition(";")
    media_type = media_type.strip()
    is_json = media_type in ("", "application/json") or media_type.endswith("+json")
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "') or "utf-8"
    if is_json and charset in ("utf-8", "utf8", "us-ascii"):
        return
    raise UnsupportedMediaType(
        f"Content-Type: {content_type[:100]!r} is not taken here; send JSON in UTF-8 as application/json",
        code="unsupported_content_type",
        param="Content-Type",
        accepts=("accept-post", "application/json"),
    )
