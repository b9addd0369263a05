"""A rank in a cell, as the agent starts it: what it sees, how it is stopped, and that nothing of it stays."""

import asyncio
import json
import os
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.clock import SYSTEM_CLOCK
from common.resources.workload import Sandbox
from common.settings.services import SandboxMode
from scheduler.adapters.ray.environment import Surroundings
from scheduler.adapters.ray.process import CANNOT_START, RankFiles, RankProcess
from scheduler.adapters.ray.sandbox import no_more_namespaces, why_not
from scheduler.ports import RankOrder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

needs_walls = pytest.mark.skipif(bool(why_not()), reason=f"no cells here: {why_not()}")

LOOK = """
import json, os, socket, sys
def read(path):
    try:
        return open(path).read()
    except OSError as error:
        return error.__class__.__name__
def write(path):
    try:
        open(path, "w").write("x")
        return True
    except OSError:
        return False
def reach(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
        return True
    except OSError:
        return False
home, port = sys.argv[1], int(sys.argv[2])
print(json.dumps({
    "uid": os.getuid(),
    "token": read(f"{home}/run/token"),
    "state": read(f"{home}/state.db"),
    "of_others": read(f"{home}/jobs/other/secret"),
    "file": read(f"{home}/files/data"),
    "writes_file": write(f"{home}/files/data"),
    "writes_model": write(f"{home}/models/m/config.json"),
    "model": read(f"{home}/models/m/config.json"),
    "linked": read(f"{home}/models/m/weights"),
    "writes_own": write("made"),
    "cwd": os.getcwd(),
    "processes": sorted(name for name in os.listdir("/proc") if name.isdigit()),
    "reaches_host": reach(port),
    "imports_product": __import__("common.units").__name__,
}))
"""


class Node:
    """A home with secrets in it, and ranks that are started on it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        for name, text in {
            "run/token": "secret",
            "state.db": "secret",
            "jobs/other/secret": "secret",
            "files/data": "rows",
            "models/m/config.json": "{}",
            "blobs/weights": "weights",
        }.items():
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (self.home / "models" / "m" / "weights").symlink_to(self.home / "blobs" / "weights")
        self.folder = self.home / "jobs" / "mine"
        self.folder.mkdir()
        self.log, self.exit_file = folder / "log", folder / "exit"
        self.rank: RankProcess | None = None

    def start(self, *command: str, mode: SandboxMode = "auto", hindrance: str = "") -> RankProcess:
        sandbox = Sandbox(
            readable=["$(HOME_DIR)/files/data", "$(HOME_DIR)/models/m"], writable=["$(HOME_DIR)/jobs/mine"]
        )
        order = RankOrder(0, "trainer", 0, command, {}, (), (), sandbox=sandbox)
        around = Surroundings(
            python=sys.executable,
            home=str(self.home),
            instance="i",
            address="127.0.0.1",
            world_size=1,
            local_rank=0,
            ports={},
            master=None,
            base={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", os.getcwd())},
            sandbox_mode=mode,
            sandbox_hindrance=hindrance,
        )
        files = RankFiles(self.log, self.exit_file)
        self.rank = RankProcess(order, around, files, 5.0, SYSTEM_CLOCK)
        return self.rank

    def python(self, script: str, *arguments: str) -> RankProcess:
        return self.start(sys.executable, "-c", textwrap.dedent(script), *arguments)

    def wait(self, seconds: float = 20.0) -> int:
        """The exit code, once the rank has ended."""
        assert self.rank is not None
        deadline = time.monotonic() + seconds
        while self.rank.alive:
            assert time.monotonic() < deadline, self.log.read_text()
            self.rank.poll()
            time.sleep(0.02)
        assert self.rank.record.exit_code is not None
        return self.rank.record.exit_code

    def until(self, name: str, seconds: float = 20.0) -> None:
        """Return when the rank has made the file."""
        deadline = time.monotonic() + seconds
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    if node.rank is not None and node.rank.record.pid and node.rank.alive:
        os.kill(node.rank.record.pid, signal.SIGUSR1)
        node.wait()


def seen(node: Node) -> dict[str, Any]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        node.python(LOOK, str(node.home), str(server.getsockname()[1]))
        assert node.wait() == 0, node.log.read_text()
    found: dict[str, Any] = json.loads(node.log.read_text())
    return found


@needs_walls
def test_a_rank_in_a_cell_sees_what_its_role_names_and_nothing_else(node: Node) -> None:
    found = seen(node)
    hidden = ("token", "state", "of_others")
    assert [found[name] for name in hidden] == ["FileNotFoundError"] * 3
    assert (found["file"], found["model"], found["linked"]) == ("rows", "{}", "weights")
    assert (found["writes_file"], found["writes_model"], found["writes_own"]) == (False, False, True)
    assert found["cwd"] == str(node.folder)
    assert found["uid"] == 65534
    assert len(found["processes"]) <= 3
    assert not found["reaches_host"]
    assert found["imports_product"] == "common"
    assert (node.folder / "made").read_text() == "x"


@needs_walls
def test_it_does_not_see_the_folder_where_the_platform_was_started(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray puts that folder on the path of every worker, and it may be somebody's home."""
    started_in = tmp_path / "of-somebody"
    started_in.mkdir()
    (started_in / "id_ed25519").write_text("secret")
    monkeypatch.syspath_prepend(str(started_in))
    node.python(f"import os; print(os.path.exists({str(started_in / 'id_ed25519')!r}))")
    assert node.wait() == 0, node.log.read_text()
    assert node.log.read_text().strip() == "False"


@needs_walls
@pytest.mark.skipif(not no_more_namespaces(), reason="this bwrap cannot forbid it")
def test_it_becomes_root_of_no_namespace_of_its_own(node: Node) -> None:
    node.start("unshare", "--user", "--map-root-user", "true")
    assert node.wait() != 0
    assert "unshare" in node.log.read_text()


@needs_walls
def test_it_may_save_its_work_when_it_is_told_to_end(node: Node) -> None:
    node.python("""
        import signal, sys, time
        def end(*_):
            time.sleep(0.5)
            open("saved", "w").close()
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        open("ready", "w").close()
        time.sleep(60)
    """)
    node.until("ready")
    asyncio.run(_stop(node, 10.0))
    assert node.wait() == 0
    assert (node.folder / "saved").exists()


async def _stop(node: Node, grace_seconds: float) -> None:
    assert node.rank is not None
    node.rank.stop(grace_seconds)


@needs_walls
@pytest.mark.parametrize(
    ("script", "code"),
    [("raise SystemExit(42)", 42), ("import os; os.kill(os.getpid(), 9)", 137), ("while True: pass", 143)],
)
def test_its_end_is_told_as_of_any_process(node: Node, script: str, code: int) -> None:
    node.python(f"open('ready', 'w').close()\n{script}")
    node.until("ready")
    if code == 143:
        asyncio.run(_stop(node, 10.0))
    assert node.wait() == code


@needs_walls
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_nothing_of_it_outlives_its_launchers(node: Node, depth: int) -> None:
    node.python("""
        import signal, subprocess, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        open("ready", "w").close()
        time.sleep(600)
    """)
    node.until("ready")
    assert node.rank is not None
    assert node.rank.record.pid is not None
    family = psutil.Process(node.rank.record.pid)
    chain = [family, *family.children(recursive=True)]
    chain[depth].kill()
    _, alive = psutil.wait_procs(chain, timeout=15)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    node.wait()


def test_where_walls_are_required_and_there_are_none_it_is_not_started(node: Node) -> None:
    rank = node.start("true", mode="require", hindrance="bwrap is not installed")
    assert rank.record.exit_code == CANNOT_START
    assert "sandbox.mode is require, but bwrap is not installed" in rank.record.log_tail


@pytest.mark.parametrize(("mode", "hindrance"), [("auto", "bwrap is not installed"), ("off", "")])
def test_elsewhere_it_runs_without(node: Node, mode: SandboxMode, hindrance: str) -> None:
    node.start(sys.executable, "-c", "import os; print(os.getuid())", mode=mode, hindrance=hindrance)
    assert node.wait() == 0
    assert node.log.read_text().strip() == str(os.getuid())
