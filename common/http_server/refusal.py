"""Why a request is refused before anybody looks at it, and how that is said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

from common.http_server.request import Headers
from common.settings.listener import ListenerSettings

ONCE = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"x-api-key",
        b"content-type",
        b"idempotency-key",
    )
)
"""Headers of which two would leave open which one counts."""


@dataclass(frozen=True)
class Refusal:
    """A status, and the reason in words."""

    status: int
    message: str


def bad_framing(method: bytes, version: str, headers: Headers, upgrades: bool) -> Refusal | None:
    """What is wrong with where a request ends, or whose it is; None where nothing is."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in ONCE:
            if name in found:
                return Refusal(400, f"the header {name.decode()} is given twice")
            found[name] = value
    if version not in ("1.0", "1.1"):
        return Refusal(505, "this server speaks HTTP/1.0 and HTTP/1.1")
    if version == "1.1" and b"host" not in found:
        return Refusal(400, "the header host is missing")
    coding, has_length = found.get(b"transfer-encoding"), b"content-length" in found
    if coding is not None and (version == "1.0" or has_length):
        return Refusal(400, "transfer-encoding does not go with content-length, nor with HTTP/1.0")
    if coding is not None and coding.strip().lower() != b"chunked":
        return Refusal(501, "of all transfer codings only chunked is known")
    if method == b"CONNECT" or (upgrades and (coding is not None or has_length)):
        return Refusal(400, "this server neither upgrades connections with a body nor connects to others")
    return None


def too_long_headers(limits: ListenerSettings) -> Refusal:
    """More or longer headers than the limits allow."""
    message = f"the headers are over {limits.header_limit_bytes} bytes or {limits.header_limit_count} lines"
    return Refusal(431, message)


def farewell(refusal: Refusal) -> bytes:
    """The last answer on a connection."""
    error = {"message": refusal.message, "type": "invalid_request_error", "param": None, "code": "bad_http"}
    body = json.dumps({"error": error}).encode()
    head = (
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
