"""A rank with a session in a real cell: its terminal, and its ports, which are not the node's."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.clock import SYSTEM_CLOCK
from common.errors import NotFound
from common.resources.sessions import Session
from common.resources.workload import Sandbox
from scheduler.adapters.ray.environment import Surroundings
from scheduler.adapters.ray.process import RankFiles, RankProcess
from scheduler.adapters.ray.sandbox import why_not
from scheduler.ports import RankOrder
from scheduler.sessions import Opened, OutputFrom, ReceivedFrom, Resized, Sent, SessionAsk, Typed

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(60),
    pytest.mark.skipif(bool(why_not()), reason=f"no cells here: {why_not()}"),
]
ROOT = Path(__file__).resolve().parents[3]
SERVE = """
import os, socket
with socket.create_server(("127.0.0.1", 8888)) as server:
    print("listens", flush=True)
    while True:
        taken, _ = server.accept()
        with taken:
            taken.sendall(b"from " + str(os.getuid()).encode() + b": " + taken.recv(100))
"""
INHERITED = """
import os
found = []
for number in range(3, 1024):
    try:
        found.append(os.readlink(f"/proc/self/fd/{number}"))
    except OSError:
        continue
print("sockets", sum(one.startswith("socket") for one in found), flush=True)
"""


class Node:
    """A home, and one rank in a cell."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / "home" / "work"
        self.work.mkdir(parents=True)
        self.rank: RankProcess | None = None

    def start(self, *command: str) -> None:
        session = Session(terminal=True, ports=True)
        sandbox = Sandbox(writable=[str(self.work)], required=True)
        order = RankOrder(0, "worker", 0, command, {"TERM": "dumb"}, (), (), sandbox=sandbox, session=session)
        around = Surroundings(
            python=sys.executable,
            home=str(self.folder / "home"),
            instance="i",
            address="127.0.0.1",
            world_size=1,
            local_rank=0,
            ports={},
            master=None,
            base={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            sandbox_mode="auto",
        )
        self.rank = RankProcess(
            order, around, RankFiles(self.folder / "log", self.folder / "exit"), 2.0, SYSTEM_CLOCK
        )

    async def ask(self, question: SessionAsk) -> Any:
        assert self.rank is not None
        assert self.rank.session is not None
        return await self.rank.session.answer(question)

    async def until_printed(self, text: bytes) -> bytes:
        printed = b""
        async with asyncio.timeout(30):
            while text not in printed:
                answer = await self.ask(OutputFrom(len(printed)))
                assert not answer.ended, printed
                printed += answer.data
        return printed

    async def end(self) -> int | None:
        assert self.rank is not None
        self.rank.stop(1)
        async with asyncio.timeout(30):
            while self.rank.alive:
                self.rank.poll()
                await asyncio.sleep(0.02)
        return self.rank.record.exit_code


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    yield made
    await made.end()


async def test_a_shell_is_typed_into_and_has_job_control(node: Node) -> None:
    node.start("bash", "--norc")
    await node.ask(Resized(30, 90))
    await node.ask(Typed(b'stty size; id -u; echo di""d\n', "me", 1))
    printed = await node.until_printed(b"did")
    assert b"30 90" in printed
    assert b"65534" in printed
    assert b"no job control" not in printed
    await node.ask(Typed(b'sleep 600; echo inter""rupted\n', "me", 2))
    await asyncio.sleep(0.5)
    await node.ask(Typed(b"\x03", "me", 3))
    await node.ask(Typed(b'echo af""ter; exit 4\n', "me", 4))
    await node.until_printed(b"after")
    assert node.rank is not None
    async with asyncio.timeout(30):
        while node.rank.alive:
            node.rank.poll()
            await asyncio.sleep(0.02)
    assert node.rank.record.exit_code == 4


async def test_ports_of_the_cell_are_reached_and_those_of_the_node_are_not(node: Node) -> None:
    node.start(sys.executable, "-c", SERVE)
    await node.until_printed(b"listens")
    number = (await node.ask(Opened(8888))).number
    await node.ask(Sent(number, 0, b"hello"))
    assert (await node.ask(ReceivedFrom(number, 0))).data == b"from 65534: hello"
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(NotFound):
        await node.ask(Opened(server.getsockname()[1]))


async def test_the_command_has_no_socket_of_the_relay(node: Node) -> None:
    node.start(sys.executable, "-c", INHERITED)
    await node.until_printed(b"sockets 0")


async def test_nothing_of_it_stays_when_it_is_stopped(node: Node) -> None:
    node.start(sys.executable, "-c", SERVE)
    await node.until_printed(b"listens")
    assert await node.end() == 143
    assert (await node.ask(OutputFrom(10**9))).ended
