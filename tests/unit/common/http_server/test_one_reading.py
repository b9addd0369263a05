"""Malformed and smuggled requests: refused, or read as two other parsers read them; and what is refused ends
the connection, with nothing behind it read."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.http_server.door import Door
from common.settings.listener import ListenerSettings
from tests.fixtures.http_readers import Framed, by_h11, by_simple_server
from tests.fixtures.talk import Talk, talked

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
CODED, LONG = b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n"

REFUSED_LINES = {
    "length, then chunks": LONG + CODED,
    "chunks, then length": CODED + LONG,
    "no length at all, then chunks": b"Content-Length: 0\r\n" + CODED,
    "two lengths": LONG + b"Content-Length: 6\r\n",
    "the same length twice": LONG + LONG,
    "the same length in other letters": LONG + b"CONTENT-LENGTH: 5\r\n",
    "coded twice": CODED + CODED,
    "lines that end with LF": b"X: y\nContent-Length: 5\n",
    "a line that ends with CR": b"X: y\rContent-Length: 5\r\n",
    "a line that ends with CR CR LF": b"X: y\r\r\nContent-Length: 5\r\n",
    "a folded line": b"X: y\r\n z\r\n" + LONG,
    "a folded length": b"Content-Length:\r\n 5\r\n",
    "a folded coding": b"Transfer-Encoding:\r\n chunked\r\n",
    "a line folded by a tab": b"X: y\r\n\tz\r\n" + LONG,
    "a first line that is folded": b" X: y\r\n" + LONG,
    "a NUL in a value": b"X: a\0b\r\n" + LONG,
    "a NUL in a name": b"X\0: a\r\n" + LONG,
    "a line without a colon": b"Nonsense\r\n" + LONG,
    "a line without a name": b": x\r\n" + LONG,
    "two hosts": b"Host: y\r\n" + LONG,
    "an upgrade with a body": b"Connection: upgrade\r\nUpgrade: h2c\r\n" + LONG,
    "an upgrade with chunks": b"Connection: upgrade\r\nUpgrade: h2c\r\n" + CODED,
    "two keys": b"Authorization: a\r\nAuthorization: b\r\n" + LONG,
    "two types": b"Content-Type: a\r\nContent-Type: b\r\n" + LONG,
}
NAMES = (
    "{} ",
    "{}\t",
    " {}",
    "\t{}",
    "{}\x0b",
    "{}\0",
    "\x0b{}",
    "{}\x85",
    "({})",
    "{},",
    '"{}"',
    "{}/",
    "{}@",
)
LENGTHS = (
    *("+5", "-5", "-0", "0x5", "5h", "5,5", "5, 5", "5;q=1", "5 5", "5.0", "5e0", "\u0665", "05_0", "", " "),
    *("\x0b5", "5\x0b", "5\0", "\x005", "5\x7f", "five", "9" * 20, "18446744073709551617", "4294967301x"),
)
CODINGS = (
    *("xchunked", "chunkedx", "identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked, identity"),
    *("chunked, chunked", ",chunked", "chunked,", "chunked;q=1", '"chunked"', "chunked\x0b", "\x0bchunked"),
    *("chunked\0", "\0chunked", "chun ked", "c\u0127unked", "chunked chunked", "", "identity, chunked", "x"),
)
CHUNKED_BODIES = (
    *(
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"g\r\nhello\r\n",
    ),
    *(b" 5\r\nhello\r\n0\r\n\r\n", b"5 5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5\rhello\r0\r\r"),
    *(b"5\r\nhello0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n"),
    *(b"6\r\nhello\r\n0\r\n\r\n", b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n", b"5;\0\r\nhello\r\n0\r\n\r\n"),
    *(
        b"5;a=\n\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"5,\r\nhello\r\n0\r\n\r\n",
        b"5\x0b\r\nhello\r\n",
    ),
)
FIRST_LINES = (
    *(
        b"POST /a HTTP/1.1 ",
        b" POST /a HTTP/1.1",
        b"POST\t/a\tHTTP/1.1",
        b"POST  /a HTTP/1.1",
        b"POST /a  HTTP/1.1",
    ),
    *(
        b"POST /a b HTTP/1.1",
        b"POST /a\0 HTTP/1.1",
        b"POST /a\tb HTTP/1.1",
        b"POST /a",
        b"POST",
        b"POST /a HTTP/1",
    ),
    *(
        b"POST /a HTTP/2.0",
        b"POST /a HTTP/0.9",
        b"POST /a HTTP/1.2",
        b"POST /a HTTP/1.10",
        b"POST /a HTTP/+1.1",
    ),
    *(
        b"POST /a http/1.1",
        b"POST /a HTTPS/1.1",
        b"POST /a ICE/1.0",
        b"post /a HTTP/1.1",
        b"PO ST /a HTTP/1.1",
    ),
    *(
        b"BREW /a HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"CONNECT a:1 HTTP/1.1",
        b"POST a HTTP/1.1",
        b"POST ?a HTTP/1.1",
    ),
    *(b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x", b"POST http:// HTTP/1.1"),
)


def refused_messages() -> Iterator[tuple[str, bytes]]:
    """Each with a request smuggled behind it that is a good one by itself."""
    first, host = b"POST /a HTTP/1.1\r\n", b"Host: x\r\n"
    for what, lines in REFUSED_LINES.items():
        for body in (b"hello", CHUNKS, b""):
            yield f"{what}, with {len(body)} bytes", first + host + lines + b"\r\n" + body
    for header, body in ((LONG, b"hello"), (CODED, CHUNKS)):
        name, _, value = header.decode().strip().partition(": ")
        for odd in NAMES:
            line = f"{odd.format(name)}: {value}\r\n".encode("latin-1")
            yield f"{odd!r} as {name}", first + host + line + b"\r\n" + body
            yield (
                f"{odd!r} as {name}, with the other",
                first + host + (CODED if header is LONG else LONG) + line + b"\r\n" + body,
            )
    for value in LENGTHS:
        yield f"length {value!r}", first + host + f"Content-Length: {value}\r\n\r\nhello".encode()
    for value in CODINGS:
        yield f"coding {value!r}", first + host + f"Transfer-Encoding: {value}\r\n\r\n".encode() + CHUNKS
    for body in CHUNKED_BODIES:
        yield f"chunks {body[:20]!r}", first + host + CODED + b"\r\n" + body
    for line in FIRST_LINES:
        yield f"first line {line[:30]!r}", line + b"\r\n" + host + b"Content-Length: 0\r\n\r\n"
    yield "no host", first + LONG + b"\r\nhello"
    yield "HTTP/1.0 with chunks", b"POST /a HTTP/1.0\r\n" + CODED + b"\r\n" + CHUNKS


MESSAGES = dict(refused_messages())


def paths(requests: list[Framed]) -> list[bytes]:
    return [request.target for request in requests]


@pytest.mark.parametrize("sent", MESSAGES.values(), ids=range(len(MESSAGES)))
def test_what_could_be_read_in_two_ways_is_refused_and_ends_the_connection(sent: bytes) -> None:
    for size in (1, 7, 4096):
        talk = asyncio.run(talked(sent + SMUGGLED, size))
        agreed = all(
            refuses or read[: len(talk.seen)] == talk.seen
            for read, refuses in (by_h11(sent + SMUGGLED), by_simple_server(sent + SMUGGLED))
        )
        assert talk.is_refused or agreed, talk.seen
        assert talk.is_refused or b"/smuggled" in paths(talk.seen), talk.seen
        assert not talk.is_refused or b"/smuggled" not in paths(talk.seen), talk.seen
        if talk.is_refused:
            assert talk.statuses[-1] >= 400
            assert talk.wire.sent.count(b"connection: close") == 1


def test_the_table_is_long_and_nearly_all_of_it_is_refused() -> None:
    async def refused() -> int:
        return sum([(await talked(sent + SMUGGLED)).is_refused for sent in MESSAGES.values()])

    assert len(MESSAGES) > 200
    assert asyncio.run(refused()) >= 0.9 * len(MESSAGES)


GOOD = {
    "a plain one": (b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "a body": (b"POST /a HTTP/1.1\r\nHost: x\r\n" + LONG + b"\r\nhello", b"hello"),
    "chunks": (b"POST /a HTTP/1.1\r\nHost: x\r\n" + CODED + b"\r\n" + CHUNKS, b"hello"),
    "chunks in capitals": (
        b"POST /a HTTP/1.1\r\nHost: x\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n" + CHUNKS,
        b"hello",
    ),
    "chunks with extensions": (
        b"POST /a HTTP/1.1\r\nHost: x\r\n" + CODED + b'\r\n5;a="b;c"\r\nhello\r\n0;z\r\n\r\n',
        b"hello",
    ),
    "trailers": (
        b"POST /a HTTP/1.1\r\nHost: x\r\n" + CODED + b"\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"hello",
    ),
    "sizes with noughts": (
        b"POST /a HTTP/1.1\r\nHost: x\r\n" + CODED + b"\r\n0005\r\nhello\r\n000\r\n\r\n",
        b"hello",
    ),
    "a whole address": (b"GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "empty lines before it": (b"\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "no space after a colon": (b"POST /a HTTP/1.1\r\nHost:x\r\nContent-Length:5\r\n\r\nhello", b"hello"),
    "HEAD": (b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n", b""),
}


@pytest.mark.parametrize(("sent", "body"), GOOD.values(), ids=GOOD)
def test_what_has_one_reading_is_read_and_so_is_the_next(sent: bytes, body: bytes) -> None:
    talk = asyncio.run(talked(sent + SMUGGLED))
    assert [(one.target, one.body) for one in talk.seen] == [(b"/a", body), (b"/smuggled", b"")]
    for read, refuses in (by_h11(sent + SMUGGLED), by_simple_server(sent + SMUGGLED)):
        assert refuses or [one.body for one in read] == [body, b""]


def test_who_waits_for_a_word_gets_it_before_the_body() -> None:
    async def ask() -> Talk:
        talk = Talk()
        await talk.say(b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + LONG + b"\r\n")
        assert talk.statuses == [100]
        await talk.say(b"hello" + SMUGGLED)
        await talk.leave()
        return talk

    talk = asyncio.run(ask())
    assert (talk.statuses, paths(talk.seen)) == ([100, 200, 200], [b"/a", b"/smuggled"])


@pytest.mark.parametrize("line", [b"DESCRIBE /a RTSP/1.0", b"GET /a RTSP/1.0", b"SOURCE /a ICE/1.0"])
def test_what_the_parser_takes_of_other_protocols_is_the_last_on_its_connection(line: bytes) -> None:
    talk = asyncio.run(talked(line + b"\r\n\r\n" + SMUGGLED))
    assert talk.is_refused
    assert b"/smuggled" not in paths(talk.seen)


def test_an_old_client_gets_one_answer_and_the_end() -> None:
    talk = asyncio.run(talked(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + SMUGGLED))
    assert (paths(talk.seen), talk.wire.closed) == ([b"/a"], True)
    assert b"transfer-encoding" not in talk.wire.sent


def test_a_request_behind_a_long_body_is_not_taken_for_long_headers() -> None:
    """Its beginning comes with the end of the body."""

    async def ask() -> Talk:
        limits = ListenerSettings(header_limit_bytes=4096)
        talk = Talk(Door(limits))
        await talk.say(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n")
        await talk.say(b"x" * 9000 + SMUGGLED[:9], SMUGGLED[9:])
        await talk.leave()
        return talk

    talk = asyncio.run(ask())
    assert (talk.statuses, paths(talk.seen)) == ([200, 200], [b"/a", b"/smuggled"])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(1, 50))
def test_headers_within_the_limit_are_taken_however_they_are_cut(sizes: list[int], size: int) -> None:
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"y" * length) for number, length in enumerate(sizes))
    request = b"GET /a HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n"

    async def statuses(limit: int) -> list[int]:
        talk = Talk(Door(ListenerSettings(header_limit_bytes=limit)))
        await talk.say(*(request[at : at + size] for at in range(0, len(request), size)))
        await talk.leave()
        return talk.statuses

    assert asyncio.run(statuses(max(1024, len(request)))) == [200]
    if len(request) > 1024 + 200:
        assert asyncio.run(statuses(1024)) == [431]
