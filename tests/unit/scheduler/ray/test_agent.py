"""The agent of a node: gangs are started once, stopped and forgotten, and the node's facts are told."""

import asyncio
import os
import platform
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import Conflict, NotFound, Unavailable
from common.resources.workload import Grant
from scheduler.adapters.devices.accelerators import Found
from scheduler.adapters.ray import agent as module
from scheduler.adapters.ray.agent import Agent, AgentOptions
from scheduler.adapters.ray.drivers import driver_versions
from scheduler.adapters.ray.inventory import MOST_NAMES, PERIOD_SECONDS, Inventory
from scheduler.ports import Billing, GangOrder, GangRecord, RankOrder
from tests.fixtures.ray_stand_in import gpu


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    made = Agent(AgentOptions("n", "10.0.0.1", str(tmp_path), "i", "always", sandbox_mode="off"))
    yield made
    gangs = (await made.observe("i")).gangs
    for gang in gangs:
        await made.stop_gang(gang.uid, gang.attempt, 0)
    for gang in gangs:
        await ended(made, gang.uid, gang.attempt)


def order(uid: str = "uid-1", attempt: int = 1, *commands: str, **changes: Any) -> GangOrder:
    grant = Grant(device="d", index=0, vendor="cpu", model="cpu")
    ranks = tuple(
        RankOrder(number, "main", number, ("sh", "-c", command), {}, ("http", "rpc"), (grant,))
        for number, command in enumerate(commands or ("sleep 60",))
    )
    values = {"world_size": len(ranks), **changes}
    return GangOrder(uid, attempt, values.pop("world_size"), "d", Billing("t", "p", "w"), ranks, **values)


async def ended(agent: Agent, uid: str, attempt: int = 1) -> GangRecord:
    async with asyncio.timeout(30):
        while True:
            gangs = (await agent.observe("i")).gangs
            record = next(gang for gang in gangs if (gang.uid, gang.attempt) == (uid, attempt))
            if not record.alive:
                return record
            await asyncio.sleep(0.02)


async def test_a_gang_is_started_once_however_often_it_is_asked_for(agent: Agent) -> None:
    first = await agent.ensure_gang(order())
    assert (await agent.ensure_gang(order())).ranks == first.ranks
    assert len((await agent.observe("i")).gangs) == 1
    assert (first.uid, first.attempt, first.digest, first.stopping) == ("uid-1", 1, "d", False)


async def test_a_second_attempt_waits_for_the_first_unless_it_is_to_run_beside(
    agent: Agent,
) -> None:
    await agent.ensure_gang(order())
    with pytest.raises(Conflict, match="attempt 1 of uid-1 is still alive on n"):
        await agent.ensure_gang(order(attempt=2))
    beside = await agent.ensure_gang(order(attempt=2, beside=1))
    assert beside.alive
    await agent.ensure_gang(order("uid-2"))
    for attempt in (1, 2):
        await agent.stop_gang("uid-1", attempt, 0)
        assert (await ended(agent, "uid-1", attempt)).stopping
    assert (await agent.ensure_gang(order(attempt=3))).alive


async def test_a_gang_that_runs_is_not_forgotten_and_one_that_has_ended_is(agent: Agent) -> None:
    await agent.ensure_gang(order())
    with pytest.raises(Conflict, match="stop it first"):
        await agent.forget_gang("uid-1", 1)
    await agent.mark_metered("uid-1", 1, {0: 3})
    [gang] = (await agent.observe("i")).gangs
    assert gang.ranks[0].metered_spans == 3
    await agent.stop_gang("uid-1", 1, 0)
    await ended(agent, "uid-1")
    await agent.forget_gang("uid-1", 1)
    assert (await agent.observe("i")).gangs == ()
    for forgotten in (agent.forget_gang("uid-1", 1), agent.mark_metered("uid-1", 1, {0: 1})):
        await forgotten
    await agent.stop_gang("uid-1", 1, 0)


async def test_ranks_get_ports_of_their_own_and_a_place_to_meet(agent: Agent) -> None:
    gang = await agent.ensure_gang(order("uid-1", 1, "sleep 60", "sleep 60"))
    other = await agent.ensure_gang(order("uid-2", 1, "sleep 60"))
    assert gang.master is not None
    assert gang.master.host == "10.0.0.1"
    assert other.master is None, "one alone has nobody to meet"
    ports = [port for record in (gang, other) for rank in record.ranks for port in rank.ports.values()]
    assert len({*ports, gang.master.port}) == 7
    told = await agent.ensure_gang(order("uid-3", master=gang.master, world_size=4))
    assert told.master == gang.master, "the node of rank 0 has said where"


async def test_ranks_know_who_they_are(agent: Agent) -> None:
    script = "echo $RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR"
    await agent.ensure_gang(order("uid-1", 1, script, script, world_size=4))
    assert [rank.log_tail for rank in (await ended(agent, "uid-1")).ranks] == [
        "0 0 4 10.0.0.1",
        "1 1 4 10.0.0.1",
    ]


async def test_logs_are_read_from_any_place(agent: Agent) -> None:
    await agent.ensure_gang(order("uid-1", 1, "printf 0123456789"))
    await ended(agent, "uid-1")
    assert (await agent.read_log("uid-1", 1, 0, 2, 3)).data == b"234"
    assert (await agent.read_log("uid-1", 1, 0, -4, 100)).data == b"6789"
    with pytest.raises(NotFound, match="attempt 2, rank 0 of uid-1 on n"):
        await agent.read_log("uid-1", 2, 0, 0, 10)


async def test_what_is_told_of_the_node(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "models" / "models--org--name").mkdir(parents=True)
    report = await agent.observe("i")
    assert report.node == "n"
    assert report.labels["computility.io/host"] == socket.gethostname()
    assert report.labels["computility.io/arch"] == platform.machine()
    assert report.labels["computility.io/sandbox"] in ("works", "missing")
    assert report.cached == ("org/name",)
    assert 0 < report.memory_available_bytes < report.memory_bytes
    assert 1 <= report.cpu_cores <= (os.cpu_count() or 1)


async def test_devices_are_probed_every_two_seconds_at_most(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes: list[tuple[str, ...]] = []

    def probe(*arguments: str) -> Found:
        probes.append(arguments)
        return Found((gpu(0),), {"amd": "its tool hangs"})

    monkeypatch.setattr(module, "probe_devices", probe)
    reports = await asyncio.gather(*(agent.observe("i") for _ in range(3)))
    assert probes == [("n", "always", "")]
    assert all(report.devices == (gpu(0),) for report in reports)
    assert reports[0].probe_faults == {"amd": "its tool hangs"}
    assert list(await agent.series()) == ["gpu-0"]
    monkeypatch.setattr(module, "PROBE_CACHE_SECONDS", 0.0)
    await agent.observe("i")
    assert len(probes) == 2


async def test_nothing_is_started_while_an_earlier_agents_processes_are_still_stopping(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agent.ensure_gang(order())
    following = Agent(AgentOptions("n", "10.0.0.1", str(tmp_path), "i", "always", sandbox_mode="off"))
    with pytest.raises(Unavailable, match="n still stops what an earlier agent ran"):
        await following.ensure_gang(order("uid-2"))
    elsewhere = Agent(AgentOptions("m", "10.0.0.1", str(tmp_path), "i", "always", sandbox_mode="off"))
    await elsewhere.ensure_gang(order("uid-3", 1, "true"))
    await ended(elsewhere, "uid-3")
    await agent.stop_gang("uid-1", 1, 0)
    await ended(agent, "uid-1")
    await following.ensure_gang(order("uid-2", 1, "true"))
    await ended(following, "uid-2")


async def test_an_agent_is_left_behind_after_a_minute_of_silence_and_only_if_it_runs_nothing(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def code() -> str | None:
        with pytest.raises(Conflict) as refused:
            await agent.node("second")
        return refused.value.code

    assert await code() == "other_installation"
    agent._asked_at -= module.ABANDONED_SECONDS
    assert await code() == module.ABANDONED
    await agent.ensure_gang(order())
    assert await code() == "other_installation"
    await agent.observe("i")
    await agent.stop_gang("uid-1", 1, 0)
    await ended(agent, "uid-1")
    assert await code() == "other_installation", "it has just been asked"


def test_models_and_datasets_are_looked_for_every_half_minute(tmp_path: Path) -> None:
    inventory = Inventory(tmp_path)
    assert inventory.names(0.0) == ()
    for name in ("models/tiny", "models/.tmp", "datasets/datasets--org--set--v1", "datasets/tiny"):
        (tmp_path / name).mkdir(parents=True)
    assert inventory.names(PERIOD_SECONDS - 0.1) == ()
    assert inventory.names(PERIOD_SECONDS) == ("org/set--v1", "tiny")
    for number in range(MOST_NAMES + 5):
        (tmp_path / "models" / f"m{number:05}").touch()
    assert len(inventory.names(2 * PERIOD_SECONDS)) == MOST_NAMES


@pytest.mark.parametrize(
    ("vendor", "path", "content", "version"),
    [
        ("nvidia", "proc/driver/nvidia/version", "NVRM: x86_64 Kernel Module  550.54.15  T", "550.54.15"),
        ("nvidia", "proc/driver/nvidia/version", "Kernel Module for x86_64  570.1  Release", "570.1"),
        ("amd", "sys/module/amdgpu/version", "6.8.5\n", "6.8.5"),
        ("ascend", "usr/local/Ascend/driver/version.info", "a=1\nVersion=24.1.rc2\n", "24.1.rc2"),
    ],
)
def test_versions_of_drivers_are_read_where_they_tell_them(
    tmp_path: Path, vendor: str, path: str, content: str, version: str
) -> None:
    assert driver_versions(tmp_path) == {}
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(content)
    assert driver_versions(tmp_path) == {vendor: version}
    (tmp_path / path).write_text("none")
    assert driver_versions(tmp_path) == {}
