"""What ranks print is read by uid: no namesake, and no other tenant, reads it or writes over it. A rank that
cannot be started ends with the reason."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from common.errors import NotFound
from common.resources.workload import Grant, Readiness
from scheduler.adapters.ray.agent import Agent, AgentOptions
from scheduler.adapters.ray.process import CANNOT_START, RankProcess
from scheduler.ports import Billing, GangOrder, GangRecord, RankOrder


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    made = Agent(AgentOptions("n", "127.0.0.1", str(tmp_path), "i", "always"))
    yield made
    for gang in (await made.observe("i")).gangs:
        await made.stop_gang(gang.uid, gang.attempt, 0)
    while any(gang.alive for gang in (await made.observe("i")).gangs):
        await asyncio.sleep(0.02)


def order(uid: str, project: str, workload: str, *command: str, **changes: Any) -> GangOrder:
    grant = Grant(device="d", index=0, vendor="cpu", model="cpu")
    rank = RankOrder(0, "main", 0, command, {}, ("http",), (grant,), **changes)
    return GangOrder(uid, 1, 1, "digest", Billing("t", project, workload), (rank,))


async def ended(agent: Agent, uid: str) -> GangRecord:
    async with asyncio.timeout(30):
        while True:
            record = next(gang for gang in (await agent.observe("i")).gangs if gang.uid == uid)
            if not record.alive:
                return record
            await asyncio.sleep(0.02)


async def read(agent: Agent, uid: str) -> bytes:
    return (await agent.read_log(uid, 1, 0, 0, 1000)).data


async def test_names_that_read_the_same_share_no_log(agent: Agent) -> None:
    await agent.ensure_gang(order("uid-evil", "acme-bots.llama-3", "1-8b-0", "echo", "evil"))
    await ended(agent, "uid-evil")
    await agent.ensure_gang(order("uid-acme", "acme-bots", "llama-3.1-8b-0", "echo", "acme"))
    await ended(agent, "uid-acme")
    assert await read(agent, "uid-acme") == b"acme\n"
    assert await read(agent, "uid-evil") == b"evil\n"


async def test_a_workload_made_anew_does_not_read_its_namesakes_log(agent: Agent) -> None:
    await agent.ensure_gang(order("uid-1", "p", "w", "echo", "old"))
    await ended(agent, "uid-1")
    with pytest.raises(NotFound):
        await read(agent, "uid-2")
    assert await read(agent, "uid-1") == b"old\n"


@pytest.mark.parametrize("uid", ["../uid-1", "..", "uid-1/..", "", "uid-1\n", "\x00"])
async def test_no_log_lies_outside_of_its_folder(agent: Agent, uid: str) -> None:
    await agent.ensure_gang(order("uid-1", "p", "w", "echo", "old"))
    await ended(agent, "uid-1")
    with pytest.raises(NotFound):
        await read(agent, uid)


async def test_names_of_any_length_start(agent: Agent) -> None:
    await agent.ensure_gang(order("uid-1", "p" * 253, "w" * 253, "echo", "here"))
    assert (await ended(agent, "uid-1")).ranks[0].exit_code == 0
    assert await read(agent, "uid-1") == b"here\n"


@pytest.mark.parametrize(
    "error", [OSError(36, "File name too long"), ValueError("embedded null byte"), KeyError("x")]
)
async def test_a_rank_that_cannot_be_started_ends_with_the_reason(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(RankProcess, "_spawn", broken)
        record = await agent.ensure_gang(order("uid-1", "p", "w", "true"))
    (rank,) = record.ranks
    assert (rank.state, rank.exit_code) == ("Exited", CANNOT_START)
    assert rank.log_tail.startswith("cannot start: ")
    assert rank.finished_ms is not None


async def test_a_rank_whose_log_cannot_be_made_ends_with_the_reason(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "workloads").write_text("in the way")
    record = await agent.ensure_gang(order("uid-1", "p", "w", "true"))
    assert record.ranks[0].exit_code == CANNOT_START
    assert record.ranks[0].log_tail.startswith("cannot start: ")


async def test_a_rank_whose_log_has_gone_still_ends(agent: Agent, tmp_path: Path) -> None:
    await agent.ensure_gang(order("uid-1", "p", "w", "sleep", "0.3"))
    (tmp_path / "logs" / "workloads" / "uid-1" / "1-0.log").unlink()
    rank = (await ended(agent, "uid-1")).ranks[0]
    assert rank.exit_code == 0
    assert "log cannot be read" in rank.log_tail


@pytest.mark.parametrize("path", ["/\x7f\x00", "/a\nb", "//[", "/%zz", "\\"])
async def test_an_odd_readiness_path_keeps_no_gang_from_ending(agent: Agent, path: str) -> None:
    probe = Readiness(port="http", start_timeout_seconds=5.0).model_copy(update={"path": path})
    await agent.ensure_gang(order("uid-1", "p", "w", "sleep", "0.3", readiness=probe))
    assert (await ended(agent, "uid-1")).ranks[0].exit_code == 0


def _size(folder: Path) -> int:
    """Of all files that are there, also while some are taken away."""
    size = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


async def test_the_log_of_a_gang_that_prints_without_end_stays_small(tmp_path: Path) -> None:
    options = AgentOptions("n", "127.0.0.1", str(tmp_path), "i", "always", process_log_bytes=100_000)
    agent = Agent(options)
    folder = tmp_path / "logs" / "workloads" / "uid-1"
    print_much = "head -c 400000 /dev/zero | tr '\\0' $part; sleep 0.2"
    flood = f"for part in 4 5 6 7 8; do {print_much}; done; echo END"
    await agent.ensure_gang(order("uid-1", "p", "w", "sh", "-c", flood))
    largest = 0
    async with asyncio.timeout(60):
        while next(iter((await agent.observe("i")).gangs)).alive:
            largest = max(largest, _size(folder))
            await asyncio.sleep(0.02)
        assert largest < 1_000_000
        while _size(folder) > 300_000:
            await asyncio.sleep(0.02)
    chunk = await agent.read_log("uid-1", 1, 0, -10, 10)
    assert (chunk.data, chunk.next_offset) == (b"888888END\n", 5 * 400_000 + 4)
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
