"""What a client can make long, slow or ambiguous on a connection, and what becomes of it: raw sockets on a
real server with small limits.
"""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.fixtures.listener import LIMITS, TIMEOUT_SECONDS, Server, read_all

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

FLOOD_BYTES = 500_000_000
HEAD = b"Host: x\r\n"


@pytest.fixture(scope="module", params=["uvloop"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    thread = Server(request.param)
    thread.start()
    yield thread
    thread.end()


def status_of(answer: bytes) -> int:
    found = re.match(rb"HTTP/1.1 (\d{3}) ", answer)
    return int(found[1]) if found else 0


GOOD = b"GET /a HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n"


def test_an_ordinary_request_is_answered(server: Server) -> None:
    assert server.say(GOOD).endswith(b"/a 0 2")


def test_a_chunked_body_arrives_whole_and_its_trailers_change_nothing(server: Server) -> None:
    answer = server.say(
        b"POST /a HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        b"3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nAuthorization: Bearer x\r\n\r\n",
    )
    assert answer.endswith(b"/a 5 3")


AMBIGUOUS = {
    "length and chunks": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": b"Content-Length: +3\r\n\r\nabc",
    "a length in hex": b"Content-Length: 0x3\r\n\r\nabc",
    "an endless length": b"Content-Length: " + b"9" * 40 + b"\r\n\r\nabc",
    "another coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding of no name": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Content-Length : 3\r\n\r\nabc",
    "a folded header": b"X-Folded: a\r\n b: c\r\nContent-Length: 0\r\n\r\n",
    "a bad chunk": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "a signed chunk": b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    "an endless chunk": b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 20 + b"\r\nabc",
    "two hosts": b"Host: y\r\nContent-Length: 0\r\n\r\n",
    "two keys": b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\nContent-Length: 0\r\n\r\n",
    "a NUL in a header": b"X-Odd: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a bare CR in a header": b"X-Odd: a\rContent-Length: 5\r\n\r\n",
    "an upgrade with a body": b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
}


@pytest.mark.parametrize("rest", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_could_be_read_in_two_ways_is_refused(server: Server, rest: bytes) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\n" + HEAD + b"\r\n"
    answer = server.say(b"POST /a HTTP/1.1\r\n" + HEAD + rest + smuggled)
    assert status_of(answer) in (400, 501), answer
    assert b"smuggled" not in answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /a HTTP/1.1\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
    ],
    ids=["no host", "connect", "another version"],
)
def test_what_is_no_request_to_this_server_is_refused(server: Server, request_line: bytes) -> None:
    assert status_of(server.say(request_line)) in (400, 505)


def test_a_wish_for_another_protocol_is_passed_over(server: Server) -> None:
    answer = server.say(b"GET /a HTTP/1.1\r\n" + HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert status_of(answer) == 200


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        (b"GET /a HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 10_000, 431),
        (b"GET /a HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 10_000 + b"\r\n\r\n", 431),
        (b"GET /a HTTP/1.1\r\n" + HEAD + b"X: y\r\n" * 30 + b"\r\n", 431),
        (b"GET /" + b"a" * 2_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 414),
    ],
    ids=["endless header", "long header", "many headers", "long path"],
)
def test_what_is_too_long_is_refused_with_the_reason(server: Server, begin: bytes, status: int) -> None:
    answer = server.say(begin)
    assert status_of(answer) == status
    assert b'"message"' in answer


def test_a_flood_of_headers_is_cut_off(server: Server) -> None:
    sent = 0
    with server.connect() as client, suppress(ConnectionError):
        client.sendall(b"GET /a HTTP/1.1\r\n" + HEAD + b"X: ")
        while sent < FLOOD_BYTES:
            client.sendall(b"a" * 65536)
            sent += 65536
    assert sent < FLOOD_BYTES


SLOW = {
    "silent": (b"", 0),
    "half a header": (b"GET /a HTTP/1.1\r\nHost: ", 408),
    "empty lines": (b"\r\n\r\n", 408),
    "half a body": (b"POST /a HTTP/1.1\r\n" + HEAD + b"Content-Length: 9\r\n\r\nabc", 408),
    "no chunk": (b"POST /a HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n", 408),
    "idle after an answer": (b"GET /a HTTP/1.1\r\n" + HEAD + b"\r\n", 200),
    "a body that nobody wants": (b"POST /at-once HTTP/1.1\r\n" + HEAD + b"Content-Length: 9\r\n\r\n", 200),
}


@pytest.mark.parametrize(("begin", "status"), SLOW.values(), ids=SLOW)
def test_who_says_nothing_more_is_not_waited_for(server: Server, begin: bytes, status: int) -> None:
    began = time.monotonic()
    assert status_of(server.say(begin)) == status
    assert time.monotonic() - began < TIMEOUT_SECONDS / 2


AT_ONCE = b"POST /at-once HTTP/1.1\r\n" + HEAD
UNREAD = {
    "one byte": (b"Content-Length: 1\r\n\r\n", [b"x"]),
    "a request": (b"Content-Length: %d\r\n\r\n" % len(GOOD), [GOOD[:9], GOOD[9:]]),
    "much": (b"Content-Length: 2000000\r\n\r\n", [b"x" * 1_000_000] * 2),
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", [b"3\r\nab", b"c\r\n0\r\nX: y\r\n\r\n"]),
}


@pytest.mark.parametrize(("head", "body"), UNREAD.values(), ids=UNREAD)
def test_a_body_that_comes_after_its_answer_costs_the_next_request_nothing(
    server: Server, head: bytes, body: list[bytes]
) -> None:
    with server.connect() as client:
        for _ in range(2):
            client.sendall(AT_ONCE + head)
            assert client.recv(65536).endswith(b"/at-once 0 2")
            for part in body:
                client.sendall(part)
                time.sleep(0.02)
        began = time.monotonic()
        client.sendall(b"GET /a HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert client.recv(65536).endswith(b"/a 0 1")
        assert read_all(client) == b""
    assert time.monotonic() - began < TIMEOUT_SECONDS / 2


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", b""),
        (b"Content-Length: 50000000\r\n\r\n", b"x" * 10_000_000),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"no chunk\r\n\r\n"),
    ],
    ids=["asked whether to send it", "too much", "malformed"],
)
def test_a_body_of_which_the_end_is_not_known_ends_the_connection(
    server: Server, head: bytes, body: bytes
) -> None:
    with server.connect() as client, suppress(ConnectionError):
        client.sendall(AT_ONCE + head)
        assert status_of(client.recv(65536)) == 200
        client.sendall(body + b"GET /a HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert read_all(client) == b""


@pytest.mark.parametrize(
    "begin",
    [b"GET /a HTTP/1.1\r\nX: ", b"POST /a HTTP/1.1\r\n" + HEAD + b"Content-Length: 999999\r\n\r\n"],
    ids=["header", "body"],
)
def test_who_drips_is_not_waited_for(server: Server, begin: bytes) -> None:
    began = time.monotonic()
    with server.connect() as client, suppress(ConnectionError):
        client.sendall(begin)
        while time.monotonic() - began < TIMEOUT_SECONDS:
            client.sendall(b"a")
            time.sleep(0.1)
    assert time.monotonic() - began < TIMEOUT_SECONDS


def test_a_steady_upload_may_take_its_time(server: Server) -> None:
    parts = [b"x" * 1000] * 10
    with server.connect() as client:
        client.sendall(b"POST /a HTTP/1.1\r\n" + HEAD + b"Connection: close\r\nContent-Length: 10000\r\n\r\n")
        for part in parts:
            client.sendall(part)
            time.sleep(0.25)
        assert read_all(client).endswith(b"/a 10000 3")


def test_who_takes_nothing_of_the_answer_is_cut(server: Server) -> None:
    began = time.monotonic()
    with server.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /endless HTTP/1.1\r\n" + HEAD + b"\r\n")
        time.sleep(4)
        assert len(read_all(client)) < FLOOD_BYTES / 4
    assert time.monotonic() - began < TIMEOUT_SECONDS


def test_requests_may_follow_each_other_closely_within_bounds(server: Server) -> None:
    request = b"GET /a HTTP/1.1\r\n" + HEAD + b"\r\n"
    assert server.say(request * 4 + GOOD).count(b"/a 0 ") == 5
    assert server.say(request * 1000).count(b"HTTP/1.1 ") < 20


def test_http_1_0_gets_no_chunks(server: Server) -> None:
    answer = server.say(b"GET /stream HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body == b"/stream 0 0"
    assert server.say(b"GET /a HTTP/1.0\r\n\r\n").endswith(b"/a 0 0")


def test_a_body_that_waits_for_a_word_gets_it(server: Server) -> None:
    answer = server.say(
        b"POST /a HTTP/1.1\r\n"
        + HEAD
        + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        b"abc",
    )
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")


def test_there_is_an_end_to_connections_and_room_again_afterwards(server: Server) -> None:
    held = [server.connect() for _ in range(LIMITS.max_connections)]
    try:
        deadline = time.monotonic() + 5
        while status_of(refused := server.say(GOOD)) == 200:
            assert time.monotonic() < deadline
        assert status_of(refused) == 503
    finally:
        for client in held:
            client.close()
    deadline = time.monotonic() + 5
    while status_of(server.say(GOOD)) != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
