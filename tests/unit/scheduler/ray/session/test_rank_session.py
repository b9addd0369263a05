"""Ranks with a session, as real processes outside of a cell: terminal, relay, time without input."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.clock import VirtualClock
from common.errors import Conflict, InvalidInput, NotFound, Unavailable
from common.resources.sessions import Session
from scheduler.adapters.ray.environment import Surroundings
from scheduler.adapters.ray.process import CANNOT_START, RankFiles, RankProcess
from scheduler.adapters.ray.session import rank_session
from scheduler.adapters.ray.session import relay as relay_module
from scheduler.adapters.ray.session.connections import ABANDONED_SECONDS
from scheduler.adapters.ray.session.frames import Decoder, Frame, Kind, encode
from scheduler.adapters.ray.session.rank_session import RankSession
from scheduler.adapters.ray.session.relay import relay
from scheduler.ports import RankOrder
from scheduler.sessions import (
    Closed,
    Opened,
    OutputFrom,
    ReceivedFrom,
    Resized,
    Sent,
    SessionAsk,
    Typed,
)

ROOT = Path(__file__).resolve().parents[5]


class Node:
    """Ranks on a virtual clock."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.ranks = folder, VirtualClock(), list[RankProcess]()

    def start(self, *command: str, **session: Any) -> RankProcess:
        asked = Session(**{"terminal": True, "idle_seconds": 60, **session})
        order = RankOrder(0, "worker", 0, command, {"TERM": "dumb"}, (), (), session=asked)
        base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        around = Surroundings(sys.executable, "/home", "i", "127.0.0.1", 1, 0, {}, None, base)
        files = RankFiles(self.folder / "log", self.folder / "exit")
        self.ranks.append(RankProcess(order, around, files, 2.0, self.clock))
        return self.ranks[-1]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    yield made
    for rank in made.ranks:
        rank.stop(0)
        await until_ended(rank)


async def until_ended(rank: RankProcess) -> int | None:
    async with asyncio.timeout(30):
        while rank.alive:
            rank.poll()
            await asyncio.sleep(0.01)
    return rank.record.exit_code


async def ask(rank: RankProcess, question: SessionAsk) -> Any:
    assert rank.session is not None
    return await rank.session.answer(question)


async def until_printed(rank: RankProcess, text: bytes) -> bytes:
    printed = b""
    async with asyncio.timeout(30):
        while text not in printed:
            rank.poll()
            answer = await ask(rank, OutputFrom(len(printed)))
            assert not answer.ended, printed
            printed += answer.data
    return printed


async def test_what_is_typed_is_read_and_what_is_printed_is_the_log(node: Node) -> None:
    rank = node.start("sh", "-c", "stty size; read line; echo got $line; exit 3")
    await until_printed(rank, b"0 0")
    await ask(rank, Resized(24, 80))
    await ask(rank, Typed(b"one\n", "me", 1))
    await until_printed(rank, b"got one")
    assert await until_ended(rank) == 3
    last = await ask(rank, OutputFrom(10**9))
    assert last.ended
    assert b"got one" in (node.folder / "log").read_bytes()
    with pytest.raises(Conflict):
        await ask(rank, Typed(b"late\n", "me", 2))


async def test_it_is_typed_once_and_ctrl_c_and_the_window_reach_the_command(node: Node) -> None:
    script = (
        "import os, signal, sys\n"
        "def told(number, frame): os.write(1, f'told {number} {os.get_terminal_size()}\\n'.encode())\n"
        "signal.signal(signal.SIGINT, told); signal.signal(signal.SIGWINCH, told)\n"
        "print('ready', flush=True)\n"
        "for line in iter(sys.stdin.readline, ''): print('read', line, flush=True)\n"
    )
    rank = node.start(sys.executable, "-c", script)
    await until_printed(rank, b"ready")
    for _ in range(2):
        await ask(rank, Typed(b"\x03", "me", 1))
    await until_printed(rank, b"told %d " % signal.SIGINT)
    await ask(rank, Resized(24, 80))
    await until_printed(rank, b"columns=80, lines=24")
    await ask(rank, Typed(b"x\n", "me", 2))
    printed = await until_printed(rank, b"read x")
    assert printed.count(b"told %d " % signal.SIGINT) == 1


async def test_without_input_it_is_told_to_be_idle(node: Node) -> None:
    rank = node.start("cat")
    await until_printed_nothing(rank)
    node.clock.advance(59)
    await ask(rank, Typed(b"x\n", "me", 1))
    node.clock.advance(59)
    rank.poll()
    assert not rank.record.idle
    node.clock.advance(1)
    rank.poll()
    assert rank.record.idle


async def until_printed_nothing(rank: RankProcess) -> None:
    rank.poll()
    assert rank.alive
    assert not rank.record.idle


async def test_ports_outside_of_a_cell_are_refused(node: Node) -> None:
    rank = node.start("sh", "-c", "true", terminal=False, ports=True)
    assert rank.record.exit_code == CANNOT_START
    assert "cell" in rank.record.log_tail


@pytest.fixture
async def joined(tmp_path: Path) -> AsyncIterator[RankSession]:
    """A session whose relay runs here, in a task."""
    (tmp_path / "log").touch()
    made = RankSession(Session(ports=True), tmp_path / "log", VirtualClock())
    assert made.relay_end is not None
    channel = socket.socket(fileno=os.dup(made.relay_end))
    channel.setblocking(False)
    made.begin()
    serving = asyncio.create_task(relay(channel))
    yield made
    made.close()
    await asyncio.wait_for(serving, 10)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(10_000):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_a_port_is_reached_and_all_arrives_in_order(
    joined: RankSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = socket.socketpair()

    async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert port == 8888
        return await asyncio.open_connection(sock=here)

    monkeypatch.setattr(relay_module, "_connect", connect)
    serving = asyncio.create_task(echo(*await asyncio.open_connection(sock=there)))
    number = (await joined.answer(Opened(8888))).number
    data = os.urandom(500_000)

    async def send() -> None:
        for at in range(0, len(data), 40_000):
            last = at + 40_000 >= len(data)
            await joined.answer(Sent(number, at, data[at : at + 40_000], end=last))

    sending = asyncio.create_task(send())
    found, ended = b"", False
    async with asyncio.timeout(30):
        while not ended:
            answer = await joined.answer(ReceivedFrom(number, len(found)))
            found, ended = found + answer.data, answer.ended
    await sending
    assert found == data
    await joined.answer(Closed(number))
    with pytest.raises(NotFound):
        await joined.answer(ReceivedFrom(number, len(found)))
    await serving


async def test_where_nothing_listens_that_is_said(
    joined: RankSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise ConnectionRefusedError

    monkeypatch.setattr(relay_module, "_connect", connect)
    with pytest.raises(NotFound):
        await joined.answer(Opened(1))


async def test_what_was_not_asked_for_is_not_there(joined: RankSession) -> None:
    for question in (Typed(b"x", "me", 1), Resized(1, 1)):
        with pytest.raises(InvalidInput):
            await joined.answer(question)


async def test_connections_of_who_was_killed_are_closed(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    clock = VirtualClock()
    session = RankSession(Session(ports=True), tmp_path / "log", clock)
    assert session.relay_end is not None
    with socket.socket(fileno=os.dup(session.relay_end)) as cell:
        session.begin()
        opening = asyncio.create_task(session.answer(Opened(80)))
        await asyncio.sleep(0)
        [asked] = Decoder().feed(cell.recv(1000))
        cell.sendall(encode(Frame(Kind.OPENED, asked.connection)))
        number = (await opening).number
        clock.advance(ABANDONED_SECONDS)
        session.tend()
        assert Decoder().feed(cell.recv(1000)) == [Frame(Kind.CLOSE, number)]
        with pytest.raises(NotFound):
            await session.answer(ReceivedFrom(number, 0))
    session.close()


async def test_a_relay_that_says_nonsense_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    session = RankSession(Session(ports=True), tmp_path / "log", VirtualClock())
    assert session.relay_end is not None
    with socket.socket(fileno=os.dup(session.relay_end)) as hostile:
        session.begin()
        opening = asyncio.create_task(session.answer(Opened(80)))
        await asyncio.sleep(0)
        hostile.sendall(b"\xff" * 100)
        with pytest.raises(NotFound):
            await opening
    session.close()


async def test_a_relay_that_says_nothing_keeps_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_session, "WAIT_SECONDS", 0.0)
    (tmp_path / "log").touch()
    session = RankSession(Session(ports=True), tmp_path / "log", VirtualClock())
    with pytest.raises(Unavailable):
        await session.answer(Opened(80))
    session.begin()
    session.close()


async def test_so_many_questions_wait_and_others_are_answered_at_once(
    joined: RankSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_session, "MAX_ALL_WAITS", 3)
    waiting = [asyncio.create_task(joined.answer(OutputFrom(0))) for _ in range(3)]
    await asyncio.sleep(0)
    assert RankSession.all_waits == 3
    assert (await asyncio.wait_for(joined.answer(OutputFrom(0)), 1)).data == b""
    joined.close()
    assert all([(await one).ended for one in waiting])
    assert RankSession.all_waits == 0
