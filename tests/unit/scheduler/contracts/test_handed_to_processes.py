"""What processes are started with, in full: the launcher of a rank, its cell, and what a node adds to it."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.clock import SYSTEM_CLOCK, VirtualClock
from common.log_times import LogTimes
from common.resources.workload import Grant, Readiness, Sandbox
from common.settings import Settings
from scheduler.adapters.devices.accelerators import Found
from scheduler.adapters.ray import agent as agents
from scheduler.adapters.ray import connector, launcher, process
from scheduler.adapters.ray.agent import Agent, AgentOptions, AgentReport
from scheduler.adapters.ray.environment import Surroundings, build_environment
from scheduler.adapters.ray.process import RankFiles, RankProcess
from scheduler.adapters.ray.sandbox import Cell
from scheduler.ports import Billing, GangOrder, HostPort, RankOrder, RankRecord
from tests.fixtures.ray_stand_in import gpu

GRANTS = (
    Grant(device="d0", index=0, vendor="nvidia", model="m"),
    Grant(device="d1", index=1, vendor="amd", model="m"),
)


def rank(number: int = 0, **changes: Any) -> RankOrder:
    return RankOrder(
        number, "main", number, ("job", "$(RANK)"), {"A": "1"}, ("http", "rpc"), GRANTS, **changes
    )


def noting(asked: list[object]) -> Callable[..., list[str]]:
    """A function that notes what it is asked."""

    def call(*arguments: object) -> list[str]:
        asked.extend(arguments)
        return ["true"]

    return call


def failing(error: Exception) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> Any:
        raise error

    return call


def surroundings(world_size: int = 1) -> Surroundings:
    base = {"PATH": "/bin"}
    return Surroundings("/py", "/home", "i", "10.0.0.1", world_size, 0, {}, None, base, "", "require", "none")


def test_a_rank_is_run_by_a_launcher_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, Any] = {}

    class Launched:
        pid = 77

        def __init__(self, command: list[str], **how: Any) -> None:
            started.update(how, command=command)

    monkeypatch.setattr(process.subprocess, "Popen", Launched)
    files = RankFiles(tmp_path / "logs" / "0.log", tmp_path / "run" / "0.exit", 1000)
    around = surroundings()
    made = RankProcess(rank(readiness=Readiness(port="http")), around, files, 12.5, VirtualClock())
    out = started.pop("stdout")
    assert isinstance(out, int)
    assert started == {
        "command": [
            *(sys.executable, "-S", "-E", launcher.__file__),
            *(str(os.getpid()), "12.5", str(files.exit_code), "job", "0"),
        ],
        "pass_fds": (),
        "stdin": subprocess.DEVNULL,
        "stderr": out,
        "env": build_environment(rank(), around),
        "cwd": files.exit_code.parent,
        "start_new_session": True,
        "umask": 0o077,
    }
    assert made.record == RankRecord(
        rank=0,
        role="main",
        replica=0,
        state="Starting",
        address="10.0.0.1",
        started_ms=VirtualClock().now_ms(),
        grants=GRANTS,
        pid=77,
    )
    for folder in (files.log.parent, files.exit_code.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("network", "world_size", "online"), [(False, 1, False), (True, 1, True), (False, 2, True)]
)
def test_a_role_that_asks_for_a_cell_gets_one_with_what_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: bool, world_size: int, online: bool
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(process, "confined", noting(asked))
    wanted = Sandbox(readable=["$(HOME_DIR)/m", "/data"], writable=["/w/$(RANK)"], network=network)
    process._command(rank(sandbox=wanted), surroundings(world_size), None)
    cell = Cell("/home", ("/home/m", "/data"), ("/w/0",), online, frozenset({"nvidia", "amd"}))
    assert asked == [["job", "0"], cell, "require", "none"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("no processes left"), "cannot start: no processes left"),
        (RuntimeError("odd"), "cannot start: RuntimeError('odd')"),
    ],
)
def test_a_rank_that_cannot_start_has_ended_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    monkeypatch.setattr(process.subprocess, "Popen", failing(error))
    files, clock = RankFiles(tmp_path / "logs" / "0.log", tmp_path / "run" / "0.exit"), VirtualClock()
    made = RankProcess(rank(), surroundings(), files, 10.0, clock)
    monkeypatch.undo()
    record = made.record
    assert (record.state, record.exit_code, record.pid) == ("Exited", 126, None)
    assert (record.log_tail, files.log.read_text()) == (told, f"{told}\n")
    assert (record.started_ms, record.finished_ms) == (clock.now_ms(), clock.now_ms())
    made.poll()
    made.stop(5.0)
    assert made.record == record


@pytest.mark.parametrize(
    ("launcher_code", "written", "code"),
    [
        (0, "0\n", 0),
        (0, "7\n", 7),
        (-9, "0\n", 137),
        (-15, None, 143),
        (0, None, 1),
        (3, None, 3),
        (0, "x", 1),
    ],
)
def test_the_code_of_a_rank_is_what_its_launcher_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher_code: int, written: str | None, code: int
) -> None:
    class Launched:
        pid = 77

        def __init__(self, command: list[str], **_: Any) -> None:
            self.code: int | None = None

        def poll(self) -> int | None:
            return self.code

    monkeypatch.setattr(process.subprocess, "Popen", Launched)
    files, clock = RankFiles(tmp_path / "logs" / "0.log", tmp_path / "run" / "0.exit"), VirtualClock()
    made = RankProcess(rank(), surroundings(), files, 10.0, clock)
    made.poll()
    assert made.alive
    clock.advance(5)
    files.log.write_text("last words\n")
    if written is not None:
        files.exit_code.write_text(written)
    made._launcher.code = launcher_code  # type: ignore[union-attr]
    made.poll()
    record = made.record
    assert (record.state, record.exit_code, record.log_tail) == ("Exited", code, "last words")
    assert record.finished_ms == clock.now_ms() == record.started_ms + 5000
    assert not files.exit_code.exists()


def test_it_is_noted_when_a_log_grew_once_a_second_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.subprocess, "Popen", failing(OSError("no")))
    files, clock = RankFiles(tmp_path / "logs" / "0.log", tmp_path / "run" / "0.exit"), VirtualClock()
    made = RankProcess(rank(), surroundings(), files, 10.0, clock)
    monkeypatch.setattr(RankProcess, "alive", True)
    begin_ms, size = clock.now_ms(), files.log.stat().st_size

    def look() -> bool:
        wanted = made.wants_note()
        if wanted:
            made.note_time()
        return wanted

    assert look()
    files.log.write_bytes(files.log.read_bytes() + b"more\n")
    assert not look(), "not yet"
    clock.advance(1)
    assert look()
    clock.advance(1)
    assert not look(), "nothing was printed"
    files.log.write_bytes(files.log.read_bytes() + b"end\n")
    monkeypatch.setattr(RankProcess, "alive", False)
    assert look()
    assert LogTimes(files.log).marks() == (
        (begin_ms, size),
        (begin_ms + 1000, size + 5),
        (begin_ms + 2000, size + 9),
    )


class Ranks:
    """Processes that are only noted."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []

    def __call__(self, order: RankOrder, around: Surroundings, files: RankFiles, *rest: Any) -> Any:
        self.made.append((order, around, files, *rest))
        record = RankRecord(order.rank, order.role, order.replica, "Exited", around.address, 0, around.ports)
        quiet = {"keep_log": lambda _: asyncio.sleep(0)}
        return type("Ended", (), {"record": record, "alive": False, **quiet})()


OPTIONS = AgentOptions(
    node="n",
    address="10.0.0.1",
    home="/nowhere",
    instance="i",
    grace_seconds=7.0,
    process_log_bytes=100,
    sandbox_mode="require",
    gang_environment=("FURTHER",),
)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Agent, Ranks, Path]:
    ranks, options = Ranks(), {**vars(OPTIONS), "home": str(tmp_path)}
    monkeypatch.setattr(agents, "RankProcess", ranks)
    monkeypatch.setattr(agents, "why_not", lambda: "it is not installed")
    monkeypatch.setattr(agents, "driver_versions", lambda: {"nvidia": "570"})
    monkeypatch.setattr(
        os, "environ", {"PATH": "/bin", "FURTHER": "x", "HF_TOKEN": "secret", "NCCL_DEBUG": "1"}
    )
    return Agent(AgentOptions(**options)), ranks, tmp_path


def order(world_size: int, *ranks: RankOrder, master: HostPort | None = None) -> GangOrder:
    billing = Billing("t", "p", "w")
    return GangOrder("uid-1", 3, world_size, "d", billing, ranks, master=master, engine_key="key", beside=2)


async def test_each_rank_is_given_all_that_the_node_adds(agent: tuple[Agent, Ranks, Path]) -> None:
    made, ranks, home = agent
    gang = await made.ensure_gang(order(4, rank(2), rank(3)))
    assert gang.master is not None
    assert gang.master.host == "10.0.0.1"
    taken = [gang.master.port]
    for local_rank, (asked, around, files, grace_seconds, clock) in enumerate(ranks.made):
        taken += around.ports.values()
        assert asked == rank(2 + local_rank)
        base = around.base
        assert around == Surroundings(
            python=sys.executable,
            home=str(home),
            instance="i",
            address="10.0.0.1",
            world_size=4,
            local_rank=local_rank,
            ports=around.ports,
            master=gang.master,
            base=base,
            engine_key="key",
            sandbox_mode="require",
            sandbox_hindrance="it is not installed",
        )
        told = {"PATH": "/bin", "FURTHER": "x", "HF_TOKEN": None, "NCCL_DEBUG": "1"}
        assert {name: base.get(name) for name in told} == told
        assert list(around.ports) == ["http", "rpc"]
        assert files == RankFiles(
            home / "logs" / "workloads" / "uid-1" / f"3-{2 + local_rank}.log",
            home / "run" / "ranks" / "n" / f"uid-1-3-{2 + local_rank}.exit",
            100,
        )
        assert (grace_seconds, clock) == (7.0, SYSTEM_CLOCK)
    assert len(set(taken)) == 5
    await asyncio.gather(*made._tasks)


async def test_an_agent_reports_whole(
    agent: tuple[Agent, Ranks, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, home = agent
    (home / "models" / "m").mkdir(parents=True)
    memory = type("Memory", (), {"total": 1024, "available": 512})
    reading: Callable[..., Found] = lambda *asked: Found((gpu(0),), {"amd": f"{asked}"})  # noqa: E731
    monkeypatch.setattr(agents, "probe_devices", reading)
    monkeypatch.setattr(agents.psutil, "virtual_memory", memory)
    monkeypatch.setattr(agents, "usable_cores", lambda: 3)
    monkeypatch.setattr(agents.socket, "gethostname", lambda: "host")
    monkeypatch.setattr(agents.platform, "machine", lambda: "arch")
    gang = await made.ensure_gang(order(1, rank()))
    assert await made.observe("i") == AgentReport(
        node="n",
        devices=(gpu(0),),
        probe_faults={"amd": "('n', 'auto', '')"},
        cpu_cores=3,
        memory_bytes=1024,
        gangs=(gang,),
        labels={
            "computility.io/host": "host",
            "computility.io/arch": "arch",
            "computility.io/sandbox": "missing",
        },
        cached=("m",),
        drivers={"nvidia": "570"},
        memory_available_bytes=512,
        version=made._versions.now,
    )
    assert made._versions.now
    await asyncio.gather(*made._tasks)


@pytest.mark.parametrize("cluster", ["west", ""])
def test_a_connector_serves_the_fabric_of_its_cluster_on_its_channel(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    served, told = list[object](), list[object]()
    settings = Settings(home=Path("/home/mine"))

    async def serve(fabric: object, channel: socket.socket) -> None:
        served.extend((fabric, channel.fileno(), channel.getblocking()))
        channel.close()

    monkeypatch.setattr(sys, "argv", ["connector", cluster, str(theirs.fileno())])
    monkeypatch.setattr(connector, "load_settings", lambda: settings)
    monkeypatch.setattr(connector, "configure_logging", lambda *arguments: told.extend(arguments))
    monkeypatch.setattr(connector, "RayFabric", lambda settings, cluster: (settings, cluster))
    monkeypatch.setattr(connector, "serve", serve)
    number = theirs.fileno()
    assert connector.main() == 0
    assert served == [(settings, cluster), number, False]
    assert told == [settings, "connector-west" if cluster else "connector"]
    theirs.detach()
    ours.close()
