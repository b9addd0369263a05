"""What comes over connections before it is a request or an answer: framing, codings, pages of metrics."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import io
import re
import zlib
from collections.abc import MutableMapping
from typing import Any, cast

from common.errors import InvalidInput, TooLarge, UnsupportedMediaType
from common.http_server.content import PIECE_BYTES, decoded
from common.http_server.door import Door
from common.settings.listener import ListenerSettings
from inference.core.routing.report import read_report
from inference.gateway.engines.connection import Connection, TransportFailed
from tests.fixtures.http_readers import Framed, by_h11, by_simple_server
from tests.fixtures.talk import UNREAD, Talk, Wire
from tests.fuzz.target import Target, can_be_sent, cut, dice

_LIMIT_BYTES = 256 * 1024
_WHOLE_BYTES = 4096
"""In pieces of so many bytes nothing is long for the server."""
_AUTHORITY = re.compile(rb"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_runner = asyncio.Runner()
_doors: list[Door] = []


def check_request(data: bytes) -> None:
    """What is read as requests is the same however it is cut, and what other parsers read; after what is
    refused nothing is. The first line is what the cuts depend on."""
    head, _, sent = data.partition(b"\n")
    pieces = cut(sent, dice(head))
    whole, by_pieces = _runner.run(_both(sent, pieces))
    assert whole == by_pieces, f"cut as {pieces[:50]}"
    seen = whole[0]
    if any(request.target.startswith(UNREAD) for request in seen):
        return  # their bodies were not looked at
    for reader in (by_h11, by_simple_server):
        theirs, refuses = reader(sent)
        assert refuses or len(theirs) >= len(seen), f"{reader.__name__} waits for more than {theirs}"
        for ours, other in zip(seen, theirs, strict=False):
            assert _same(ours, other), f"{ours} is {other} for {reader.__name__}"


async def _both(sent: bytes, pieces: list[bytes]) -> tuple[Any, Any]:
    if not _doors:
        _doors.append(Door(ListenerSettings(max_pipelined=1000)))
    blocks = [sent[at : at + _WHOLE_BYTES] for at in range(0, len(sent), _WHOLE_BYTES)]
    return await _read(blocks), await _read(pieces)


async def _read(pieces: list[bytes]) -> tuple[list[Framed], list[int], bool]:
    talk = Talk(_doors[0])
    await talk.say(*pieces)
    refused = talk.is_refused
    await talk.leave()
    return talk.seen, talk.statuses, refused


def _same(ours: Framed, other: Framed) -> bool:
    return (ours.method, ours.body, _path(ours.target)) == (other.method, other.body, _path(other.target))


def _path(target: bytes) -> bytes:
    """Path and query, as the server tells applications."""
    path = _AUTHORITY.sub(b"", target).partition(b"#")[0]
    return path if path.startswith(b"/") else b"/" + path


def check_answer(data: bytes) -> None:
    """An engine's answer is the same however it is cut, and never whole where another client waits for more.
    The first line is what the cuts depend on. Empty lines behind an answer may go unseen in one piece."""
    head, _, sent = data.partition(b"\n")
    pieces = cut(sent, dice(head))
    whole, by_pieces = _runner.run(_answers(sent, pieces))
    assert whole[:3] == by_pieces[:3], f"cut as {pieces[:50]}"
    assert whole[3] or not by_pieces[3], f"free only when cut as {pieces[:50]}"
    status, body, ended, is_free = whole
    if not ended:
        assert not is_free
        return
    theirs = _by_http_client(sent)
    if theirs is not None:
        assert (status, body) == theirs, f"{(status, body[:80])} is {theirs[0], theirs[1][:80]}"


async def _answers(sent: bytes, pieces: list[bytes]) -> tuple[Any, Any]:
    return await _answer([sent] if sent else []), await _answer(pieces)


async def _answer(pieces: list[bytes]) -> tuple[int, bytes, bool, bool]:
    """Status, body, whether it is whole, and whether the connection may be used again at the end of it."""
    free: list[Connection] = []
    connection, wire = Connection(free.append, lambda _: None), Wire()
    connection.connection_made(wire)
    answer = connection.ask(b"", b"", 5.0)
    body, ended = b"", True
    for piece in pieces:
        if not wire.closed:
            connection.data_received(piece)
    is_free = bool(free) and not wire.closed
    connection.connection_lost(None)
    try:
        await answer.begun()
        while part := await answer.readany():
            body += part
    except TransportFailed:
        ended = False
    answer.close()
    return answer.status, body, ended, is_free


class _Said:
    """Stands in for a socket."""

    def __init__(self, sent: bytes) -> None:
        self._sent = sent

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._sent)


def _by_http_client(sent: bytes) -> tuple[int, bytes] | None:
    """Status and body by the standard library; None for what it refuses, or passes over otherwise."""
    answer = http.client.HTTPResponse(cast(Any, _Said(sent)), method="POST")
    try:
        answer.begin()
        body = answer.read()
    except http.client.IncompleteRead:
        return -1, b""
    except (http.client.HTTPException, ValueError, OSError):
        return None
    return (answer.status, body) if answer.status >= 200 else None


def check_coded(data: bytes) -> None:
    """A coded body gives no more than the limit, in pieces, or is refused; the same however it is cut. The
    first line is its coding."""
    coding, _, sent = data.partition(b"\n")
    pieces = cut(sent, dice(coding))
    whole = _runner.run(_decoded(coding, [sent]))
    assert whole == _runner.run(_decoded(coding, pieces)), f"cut as {pieces[:50]}"


async def _decoded(coding: bytes, pieces: list[bytes]) -> bytes | None:
    """What comes out; None where it is refused, as too large or as not so coded, whichever shows first."""
    waiting = [*pieces] or [b""]

    async def receive() -> MutableMapping[str, Any]:
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    body, more = b"", True
    try:
        read = decoded(receive, coding, _LIMIT_BYTES)
        while more:
            message = await read()
            assert read is receive or len(message["body"]) <= PIECE_BYTES
            body += message["body"]
            more = message["more_body"]
    except (InvalidInput, TooLarge, UnsupportedMediaType) as error:
        can_be_sent(error)
        return None
    assert read is receive or len(body) <= _LIMIT_BYTES
    return body


def check_report(data: bytes) -> None:
    """A page of metrics tells a load that can be reckoned with, or none."""
    report = read_report(data.decode("utf-8", "replace"))
    if report is not None:
        assert report.requests >= 0
        assert 0.0 <= report.cache_use <= 1.0
        assert report.cache_tokens is None or report.cache_tokens > 0


_HOST = b"Host: x\r\n"
_REQUESTS = (
    b"a\nPOST /a HTTP/1.1\r\n"
    + _HOST
    + b"Content-Length: 5\r\n\r\nhelloGET /b?c=d HTTP/1.1\r\n"
    + _HOST
    + b"\r\n",
    b"b\nPOST /a HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    b"5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\nPOST http://x/c HTTP/1.1\r\n" + _HOST + b"Content-Length: 0\r\n\r\n",
    b"c\nHEAD /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    b"d\nGET /a HTTP/1.1\r\n" + _HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
    b"e\nPOST /unread HTTP/1.1\r\n"
    + _HOST
    + b"Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n"
    + _HOST
    + b"\r\n",
)
_ANSWERS = (
    b'a\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a": 1}',
    b"b\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: a\n\r\n1\r\n\n\r\n0\r\n\r\n",
    b"c\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\nConnection: close\r\n\r\nall of it",
    b"d\nHTTP/1.0 204 No Content\r\nConnection: keep-alive\r\n\r\n",
)
_WORDS = (
    *(
        "Content-Length: ",
        "Transfer-Encoding: ",
        "chunked",
        "\r\n",
        "\r\n\r\n",
        "0\r\n\r\n",
        "HTTP/1.1",
        "HTTP/1.0",
    ),
    *(
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "Connection: close",
        "keep-alive",
        "Upgrade: ",
        "Expect: 100-continue",
    ),
    *("Host: ", "HTTP/1.1 200 OK\r\n", " :", "\t", ";", "+5", "0x5", "5, 5", "identity", "HEAD", "OPTIONS *"),
)
_PAGE = (
    b'vllm:num_requests_running{engine="0"} 3.0\nvllm:num_requests_waiting{engine="0"} 1.0\n'
    b'vllm:kv_cache_usage_perc{engine="0"} 0.25\nprocess_start_time_seconds 1.7e+09\n'
    b'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="1024"} 1.0\n'
)

TARGETS = (
    Target("request-framing", "requests on a connection", check_request, _REQUESTS, _WORDS),
    Target(
        "engine-answer",
        "an engine's answer on its connection",
        check_answer,
        _ANSWERS,
        _WORDS,
        {"empty lines behind an answer": b"a\nHTTP/1.1 204 No Content\r\n\r\n\n\n"},
    ),
    Target(
        "coded-body",
        "compressed bodies",
        check_coded,
        (
            b"gzip\n" + gzip.compress(b"{}" * 50, mtime=0),
            b"deflate\n" + zlib.compress(b"{}" * 50),
            b"gzip\n" + gzip.compress(bytes(_LIMIT_BYTES + 1), mtime=0),
        ),
        ("gzip", "deflate", "identity", "x-gzip"),
    ),
    Target(
        "engine-report", "engines' pages of metrics", check_report, (_PAGE,), ("1e400", "NaN", "+Inf", "-1")
    ),
)
