"""The client of engines against all that an engine may say, right or wrong, cut anywhere."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.gateway.engines import client as module
from inference.gateway.engines.client import EngineClient, Place
from inference.gateway.engines.connection import (
    KEPT_BYTES,
    Answer,
    Connection,
    Disconnected,
    Malformed,
    SilenceTimer,
    Silent,
    TransportFailed,
    Unreachable,
)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
URL = "http://engine:8000/v1/completions"


@asynccontextmanager
async def asked(serve: Serve, connections: list[int] | None = None) -> AsyncIterator[EngineClient]:
    """A client whose engine serves every connection so."""
    folder = tempfile.TemporaryDirectory(prefix="engine-")
    path = str(Path(folder.name) / "s")

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connections is not None:
            connections.append(1)
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    async def open_connection(make: Callable[[], Connection], place: Place) -> Connection:
        _, made = await asyncio.get_running_loop().create_unix_connection(make, path)
        return made

    server = await asyncio.start_unix_server(accept, path)
    client = EngineClient({"Authorization": "Bearer t"}, 5, 5)
    with pytest.MonkeyPatch.context() as patch, folder:
        patch.setattr(module, "open_connection", open_connection)
        try:
            yield client
        finally:
            await client.close()
            server.close()


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """One whole request. Raises ``IncompleteReadError`` when the client goes."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


def says(*pieces: bytes, requests: list[bytes] | None = None, ends: bool = False) -> Serve:
    """An engine that answers every request by these pieces."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                request = await request_of(reader)
            except asyncio.IncompleteReadError:
                return
            if requests is not None:
                requests.append(request)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if ends:
                return

    return serve


async def whole(answer: Answer) -> bytes:
    content = b""
    while data := await answer.readany():
        content += data
    answer.close()
    return content


def plain(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), more, body)


def chunked(*parts: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n" + body + b"0\r\n\r\n"


def cut(content: bytes, at: list[int]) -> list[bytes]:
    ends = sorted({where % (len(content) + 1) for where in at} | {len(content)})
    return [content[a:b] for a, b in zip([0, *ends], ends, strict=False) if b > a]


async def test_a_request_is_sent_whole_and_its_connection_serves_the_next() -> None:
    requests: list[bytes] = []
    connections: list[int] = []
    async with asked(says(plain(b"yes"), requests=requests), connections) as client:
        for number in range(3):
            answer = await client.post(URL, b"body", {"X-Request-Id": f"r{number}"})
            assert (answer.status, await whole(answer)) == (200, b"yes")
    assert len(connections) == 1
    assert requests[1] == (
        b"POST /v1/completions HTTP/1.1\r\nHost: engine:8000\r\nContent-Length: 4\r\n"
        b"Authorization: Bearer t\r\nX-Request-Id: r1\r\n\r\nbody"
    )


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    at=st.lists(st.integers(0, 5000), max_size=12),
    is_chunked=st.booleans(),
    first=st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"]),
)
def test_an_answer_is_the_same_wherever_it_is_cut(
    parts: list[bytes], at: list[int], is_chunked: bool, first: bytes
) -> None:
    content = first + (chunked(*parts) if is_chunked else plain(b"".join(parts)))

    async def ask() -> None:
        connections: list[int] = []
        async with asked(says(*cut(content, at)), connections) as client:
            for _ in range(2):
                answer = await client.post(URL, b"")
                assert (answer.status, await whole(answer)) == (200, b"".join(parts))
        assert len(connections) == 1

    asyncio.run(ask())


@settings(max_examples=60, deadline=None)
@given(
    content=st.sampled_from([plain(b"x" * 40), chunked(b"abc", b"defg"), plain(b"", b"500 No")]),
    length=st.integers(0, 200),
)
def test_an_answer_that_ends_early_is_never_taken_for_whole(content: bytes, length: int) -> None:
    async def ask() -> None:
        async with asked(says(content[:length], ends=True)) as client:
            if length >= len(content):
                await whole(await client.post(URL, b""))
                return
            with pytest.raises((Malformed, Disconnected)):
                await whole(await client.post(URL, b""))

    asyncio.run(ask())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_nonsense_is_an_error_of_the_transport(content: bytes) -> None:
    async def ask() -> None:
        async with asked(says(content, ends=True)) as client, asyncio.timeout(10):
            with pytest.raises(TransportFailed):
                await whole(await client.post(URL, b""))

    asyncio.run(ask())


async def test_an_answer_of_unknown_length_ends_with_its_connection() -> None:
    connections: list[int] = []
    async with asked(says(b"HTTP/1.1 200 OK\r\n\r\nall ", b"of it", ends=True), connections) as client:
        for _ in range(2):
            assert await whole(await client.post(URL, b"")) == b"all of it"
    assert len(connections) == 2


@pytest.mark.parametrize("more", [b"Connection: close\r\n", b""])
async def test_a_connection_that_the_engine_ends_is_not_used_again(more: bytes) -> None:
    connections: list[int] = []
    async with asked(says(plain(b"a", more=more), ends=True), connections) as client:
        for _ in range(2):
            assert await whole(await client.post(URL, b"")) == b"a"
            await asyncio.sleep(0.01)
    assert len(connections) == 2


async def test_what_nobody_asked_for_ends_the_connection() -> None:
    connections: list[int] = []
    async with asked(says(plain(b"a") + plain(b"of another tenant")), connections) as client:
        for _ in range(2):
            assert await whole(await client.post(URL, b"")) == b"a"
            await asyncio.sleep(0.01)
    assert len(connections) == 2


async def test_headers_without_end_are_not_kept() -> None:
    lines = b"HTTP/1.1 200 OK\r\n" + b"X-A: %b\r\n" % (b"a" * 60) * 2000
    async with asked(says(lines)) as client:
        with pytest.raises(Malformed):
            await client.post(URL, b"")


class Watched:
    """Stands in for a connection whose clock the test moves, as for its loop."""

    def __init__(self) -> None:
        self.loop: Any = self
        self.now = 0.0
        self.told: list[str] = []
        self._due: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return self.now

    def create_future(self) -> "asyncio.Future[None]":
        return asyncio.get_running_loop().create_future()

    def call_later(self, seconds: float, call: Callable[[], None]) -> "Watched":
        self._due = (self.now + seconds, call)
        return self

    def cancel(self) -> None:
        self._due = None

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while self._due is not None and self._due[0] <= until:
            (self.now, call), self._due = self._due, None
            call()
        self.now = until

    def pause(self) -> None:
        self.told.append("wait")

    def resume(self) -> None:
        self.told.append("go on")

    def abort(self) -> None:
        self.told.append("end")


def watched() -> tuple[Watched, Answer]:
    connection = Watched()
    answer = Answer(cast(Connection, connection), 10.0)
    SilenceTimer(connection.loop).watch(answer, 10.0)
    return connection, answer


async def test_an_engine_that_says_nothing_is_not_waited_for_longer() -> None:
    connection, answer = watched()
    connection.pass_time(9.9)
    assert connection.told == []
    connection.pass_time(0.1)
    assert connection.told == ["end"]
    with pytest.raises(Silent):
        await answer.begun()


async def test_a_sign_of_life_in_time_is_enough() -> None:
    connection, answer = watched()
    for _ in range(8):
        connection.pass_time(8)
        answer.came()
    answer.headers_came(200, {})
    answer.body_came(b"abc")
    connection.pass_time(10)
    assert await answer.readany() == b"abc", "what came is given out"
    with pytest.raises(Silent):
        await answer.readany()


async def test_who_does_not_read_makes_the_engine_wait_and_that_wait_is_ours() -> None:
    connection, answer = watched()
    answer.headers_came(200, {})
    answer.body_came(b"a" * KEPT_BYTES)
    assert connection.told == []
    answer.body_came(b"a")
    assert connection.told == ["wait"]
    connection.pass_time(1000)
    assert len(await answer.readany()) == KEPT_BYTES + 1
    assert connection.told == ["wait", "go on"]
    connection.pass_time(9)
    answer.end()
    connection.pass_time(1000)
    assert await answer.readany() == b""
    assert connection.told == ["wait", "go on"]


async def test_an_answer_larger_than_is_kept_comes_whole() -> None:
    async with asked(says(plain(b"a" * 9_000_000))) as client:
        answer = await client.post(URL, b"")
        await asyncio.sleep(0)
        assert len(await whole(answer)) == 9_000_000


async def test_a_block_may_take_so_long_and_no_longer() -> None:
    async with asked(says()) as client:
        with pytest.raises(Silent):
            async with client.asking("GET", URL, 0.05):
                pass


async def test_an_answer_given_up_ends_the_connection_and_the_engine_sees_it() -> None:
    seen = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        with suppress(ConnectionError):
            await reader.read()
        seen.set()

    async with asked(serve) as client:
        answer = await client.post(URL, b"")
        answer.close()
        answer.close()
        await asyncio.wait_for(seen.wait(), 5)
        task = asyncio.create_task(client.post(URL, b""))
        await asyncio.sleep(0.05)
        seen.clear()
        (await task).close()
        await asyncio.wait_for(seen.wait(), 5)


async def test_where_nobody_listens_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    client = EngineClient({}, 0.05, 5)

    async def refused(*_: object) -> Connection:
        raise ConnectionRefusedError("nobody there")

    monkeypatch.setattr(module, "open_connection", refused)
    with pytest.raises(Unreachable, match="nobody there"):
        await client.post(URL, b"")

    async def never(*_: object) -> Connection:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(module, "open_connection", never)
    with pytest.raises(Unreachable):
        await client.post(URL, b"")


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nX: b", "a\r"])
async def test_a_header_is_one_line(value: str) -> None:
    client = EngineClient({}, 1, 1)
    with pytest.raises(ValueError, match="end of a line"):
        await client.post(URL, b"", {"X-Request-Id": value})


@pytest.mark.parametrize(
    ("url", "place", "host", "path"),
    [
        ("http://a:1/v1", ("a", 1, False), "a:1", "/v1"),
        ("http://a", ("a", 80, False), "a", "/"),
        ("https://u:p@a/x", ("a", 443, True), "a", "/x"),
        ("http://[::1]:8000/health", ("::1", 8000, False), "[::1]:8000", "/health"),
    ],
)
def test_where_a_url_leads(url: str, place: Place, host: str, path: str) -> None:
    assert module._parts(url) == (place, host, path)
