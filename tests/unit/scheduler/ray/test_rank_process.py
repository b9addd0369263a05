"""One rank on its node: when it is ready, how it ends, and what is told of that."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.clock import VirtualClock
from common.resources.workload import Grant, Readiness
from scheduler.adapters.ray.environment import Surroundings
from scheduler.adapters.ray.process import MISSES_UNTIL_UNREADY, RankFiles, RankProcess
from scheduler.ports import RankOrder, RankRecord

GRANT = Grant(device="d", index=0, vendor="cpu", model="cpu")


class Node:
    """Where ranks run; ``healthy`` is what their probes are answered."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, VirtualClock()
        self.healthy, self.asked = True, list[str]()
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.ranks: list[RankProcess] = []

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if not self.healthy:
            raise httpx.ConnectError("refused")
        return httpx.Response(200)

    def start(self, *command: str, address: str = "10.0.0.1", **changes: Any) -> RankProcess:
        order = RankOrder(3, "main", 1, command, {}, ("http",), (GRANT,), **changes)
        base = {"PATH": "/bin:/usr/bin"}
        around = Surroundings("/py", "/home", "i", address, 1, 0, {"http": 8100}, None, base)
        files = RankFiles(self.folder / "logs" / "0.log", self.folder / "run" / "0.exit", 1000)
        rank = RankProcess(order, around, files, 10.0, self.clock)
        self.ranks.append(rank)
        return rank

    async def until(self, rank: RankProcess, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                rank.poll()
                await asyncio.sleep(0.01)

    async def end_of(self, rank: RankProcess) -> Any:
        await self.until(rank, lambda: not rank.alive)
        return rank.record


def told(rank: RankProcess) -> RankRecord:
    """What is told of it now."""
    return rank.record


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    yield made
    for rank in made.ranks:
        rank.stop(0)
        await made.end_of(rank)
    await made.client.aclose()


async def test_what_a_rank_is_told_as_soon_as_it_starts(node: Node) -> None:
    record = node.start("sleep", "60").record
    assert (record.rank, record.role, record.replica, record.state) == (3, "main", 1, "Running")
    assert (record.address, record.ports, record.grants) == ("10.0.0.1", {"http": 8100}, (GRANT,))
    assert record.started_ms == node.clock.now_ms()
    assert record.pid


async def test_a_rank_is_ready_once_it_answers_and_unready_after_some_misses(node: Node) -> None:
    probe = Readiness(port="http", path="/health", start_timeout_seconds=5.0)
    rank = node.start("sleep", "60", readiness=probe)
    assert told(rank).state == "Starting"
    node.healthy = False
    await rank.probe(node.client)
    assert told(rank).state == "Starting"
    node.healthy = True
    await rank.probe(node.client)
    assert len(node.asked) == 1, "it is asked once in a period"
    node.clock.advance(probe.period_seconds)
    await rank.probe(node.client)
    assert (told(rank).state, node.asked[-1]) == ("Ready", "http://10.0.0.1:8100/health")
    node.healthy = False
    states = []
    for _ in range(MISSES_UNTIL_UNREADY):
        node.clock.advance(probe.period_seconds)
        await rank.probe(node.client)
        states.append(rank.record.state)
    assert states == ["Ready"] * (MISSES_UNTIL_UNREADY - 1) + ["Running"]
    node.healthy = True
    node.clock.advance(probe.period_seconds)
    await rank.probe(node.client)
    assert told(rank).state == "Ready"
    node.healthy = False
    node.clock.advance(probe.period_seconds)
    await rank.probe(node.client)
    assert told(rank).state == "Ready", "misses count from the last answer"


async def test_an_address_of_ipv6_is_asked_in_brackets(node: Node) -> None:
    probe = Readiness(port="http", start_timeout_seconds=5.0)
    rank = node.start("sleep", "60", address="fd00::1", readiness=probe)
    await rank.probe(node.client)
    assert node.asked == [f"http://[fd00::1]:8100{probe.path}"]


async def test_a_rank_without_a_probe_and_one_that_has_ended_are_not_asked(node: Node) -> None:
    await node.start("sleep", "60").probe(node.client)
    ended = node.start("true", readiness=Readiness(port="http", start_timeout_seconds=5.0))
    await node.end_of(ended)
    await ended.probe(node.client)
    assert node.asked == []


@pytest.mark.parametrize(
    ("command", "code"),
    [(("sh", "-c", "echo a; echo b >&2; exit 7"), 7), (("true",), 0), (("/no/such/program",), 127)],
)
async def test_a_rank_that_ends_tells_its_code_and_its_last_words(
    node: Node, command: tuple[str, ...], code: int
) -> None:
    rank = node.start(*command)
    node.clock.advance(5)
    record = await node.end_of(rank)
    assert (record.state, record.exit_code) == ("Exited", code)
    assert record.finished_ms == node.clock.now_ms()
    if code == 7:
        assert record.log_tail == "a\nb"
    assert not list((node.folder / "run").iterdir()), "what is told is not kept"


async def test_a_rank_that_is_stopped_ends_by_sigterm_and_a_deaf_one_after_its_grace(node: Node) -> None:
    willing = node.start("sleep", "60")
    willing.stop(30.0)
    assert (await node.end_of(willing)).exit_code == 128 + signal.SIGTERM
    deaf = node.start("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done")
    log = node.folder / "logs" / "0.log"
    await node.until(deaf, lambda: log.read_text() == "up\n")
    deaf.stop(0.1)
    assert (await node.end_of(deaf)).exit_code == 128 + signal.SIGKILL
    deaf.stop(0.1)  # of one that has ended nothing is left to stop


async def test_a_launcher_that_is_killed_itself_is_told_by_the_signal(node: Node) -> None:
    rank = node.start("sh", "-c", "echo begun; sleep 60")
    assert rank._launcher is not None
    async with asyncio.timeout(30):
        while "begun" not in (node.folder / "logs" / "0.log").read_text():
            await asyncio.sleep(0.01)
        rank._launcher.kill()
        while not rank._files.exit_code.exists():  # its other half has stopped the command
            await asyncio.sleep(0.01)
    assert (await node.end_of(rank)).exit_code == 128 + signal.SIGKILL


async def test_a_log_is_full_at_its_size_and_bounded(node: Node) -> None:
    rank = node.start("sh", "-c", "head -c 3000 /dev/zero | tr '\\0' x; echo; echo END")
    await node.end_of(rank)
    full = [rank.log_is_full]
    rank.bound_log()
    assert [*full, rank.log_is_full] == [True, False]
    assert told(rank).log_tail == "END"


async def test_a_rank_works_in_a_folder_of_the_node_and_nobody_else_reads_what_it_writes(node: Node) -> None:
    rank = node.start("sh", "-c", "pwd; umask; env | sort | cut -d= -f1 | tr '\\n' ' '")
    folder, umask, names = (await node.end_of(rank)).log_tail.splitlines()
    assert folder == str(node.folder / "run")
    assert umask == "0077"
    assert {"COMPUTILITY_HOME", "COMPUTILITY_INSTANCE", "PATH"} <= set(names.split())
    assert (node.folder / "logs" / "0.log").stat().st_mode & 0o077 == 0
