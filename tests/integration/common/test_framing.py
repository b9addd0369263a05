"""Where a request ends: for whatever is made up of odd lines, lengths, codings and chunks, the servers either
refuse it or see the requests that another parser sees, and a stranger gets nothing into the log.
"""

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fixtures.http_readers import by_h11
from tests.fixtures.listener import TIMEOUT_SECONDS, Server, read_all

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

EXAMPLES = 2000
NEXT = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
FIRST_LINES = [
    *["POST /a HTTP/1.1"] * 20,
    *("GET /a HTTP/1.1", "POST /a HTTP/1.0", "POST\t/a HTTP/1.1", "POST /a HTTP/1.1 ", " POST /a HTTP/1.1"),
    *("POST /a HTTP/2.0", "post /a HTTP/1.1", "POST /a", "POST /a b HTTP/1.1", "POST /a\0 HTTP/1.1"),
]
NAMES = [
    *["Content-Length", "Transfer-Encoding"] * 4,
    *("Content-Length ", "Content-Length\t", " Content-Length", "Content_Length", "content-length"),
    *("Transfer-Encoding ", "Transfer\0-Encoding", "X", "Connection", "Expect", "Host", "Upgrade"),
]
VALUES = [
    *["5", "chunked"] * 4,
    *("05", "+5", "5,5", "5, 5", "5 ", "\t5", "0x5", "5\x0b", "-1", "", "0", "6", "9" * 20, "5\r\n 5", "5;"),
    *(
        "Chunked",
        "chunked, chunked",
        "identity",
        "gzip, chunked",
        "chunked, identity",
        "xchunked",
        ",chunked",
    ),
    *("chunked\x0b", "chunked;q=1", "\0chunked", "chunked\r\n ", "close", "100-continue", "a\rb", "h2c"),
]
BODIES = [
    *["", "hello", "5\r\nhello\r\n0\r\n\r\n"] * 3,
    *("hell", "5;ext\r\nhello\r\n0\r\n\r\n", "05\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n"),
    *("5 \r\nhello\r\n0\r\n\r\n", "5\nhello\n0\n\n", "+5\r\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n"),
    *("5\r\nhello\r\n0\r\nX: y\r\n\r\n", "0\r\n\r\n", '5;a="\n"\r\nhello\r\n0\r\n\r\n', "5\rhello\r0\r\r"),
    *("5\r\nhello\r\n0\n\r\n", "5\r\nhello\r\n00000\r\n\r\n", "5;\0\r\nhello\r\n0\r\n\r\n"),
    *("f" * 17 + "\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n"),
]
SOUND = ["Content-Length: 5", "Transfer-Encoding: chunked", "X: y"]
ENDS = [*["\r\n"] * 60, "\n", "\r", "\r\r\n"]
QUIET_SECONDS = 0.03
ANSWER = re.compile(rb"HTTP/1\.1 200 OK\r\n(?:[^\r]*\r\n)*?\r\n(/\S*) (\d+) \d+")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """An odd request, and an ordinary one behind it."""
    pick = lambda choices: draw(st.sampled_from(choices))  # noqa: E731 - a word for what the next lines do
    lines = [pick(FIRST_LINES), "Host: x"]
    for _ in range(draw(st.integers(0, 2))):
        odd = f"{pick(NAMES)}:{pick(['', ' '])}{pick(VALUES)}"
        lines.insert(draw(st.integers(1, len(lines))), pick([*SOUND, odd]))
    head = "".join(f"{line}{pick(ENDS)}" for line in lines)
    return f"{head}{pick(ENDS)}{pick(BODIES)}{NEXT}".encode("latin-1")


def answered(server: Server, sent: bytes) -> list[tuple[str, int]]:
    """Path and length of body of each request that the server took."""
    with socket.create_connection(server.address, timeout=TIMEOUT_SECONDS) as client:
        told = b""
        with suppress(OSError):
            client.sendall(sent)
            told = _read_until_quiet(client)
            client.shutdown(socket.SHUT_WR)
        told += read_all(client)
        return [(path.decode(), int(length)) for path, length in ANSWER.findall(told)]


def _read_until_quiet(client: socket.socket) -> bytes:
    """What is answered while the connection is open: an end that comes with the request may go before."""
    told = b""
    client.settimeout(QUIET_SECONDS)
    with suppress(TimeoutError, ConnectionError):
        while part := client.recv(65_536):
            told += part
    client.settimeout(TIMEOUT_SECONDS)
    return told


def framed(sent: bytes) -> list[tuple[str, int]]:
    """The same as another parser reads it, up to what it refuses."""
    return [(one.target.decode(), len(one.body)) for one in by_h11(sent)[0]]


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    thread = Server(request.param)
    thread.start()
    yield thread
    thread.end()


def test_a_request_is_refused_or_ends_where_others_see_its_end(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    seen = {0: 0, 1: 0, 2: 0}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(sent=requests())
    def look(sent: bytes) -> None:
        ours = answered(server, sent)
        assert ours == framed(sent)[: len(ours)]
        seen[len(ours)] += 1

    with caplog.at_level(logging.WARNING):
        look()
    assert min(seen.values()) > 20, seen
    assert caplog.records == []


def test_a_refused_body_that_waited_for_a_word_leaves_no_trace_in_the_log(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    head = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    with caplog.at_level(logging.WARNING):
        answer = server.say(head.encode() + b"no size\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert server.say(NEXT.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode()).endswith(
            b"/next 0 2"
        )
    assert caplog.records == []
