"""The launcher with real processes: nothing of a rank outlives it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from scheduler.adapters.ray import launcher

pytestmark = pytest.mark.integration

FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen(["sh", "-c", "sleep 600 & echo $! >> {pids}; wait"])
detached = subprocess.Popen(["sleep", "600"], start_new_session=True)
with open("{pids}", "a") as file:
    file.write(f"{{os.getpid()}}\\n{{child.pid}}\\n{{detached.pid}}\\n")
{then}
"""
STAY = "time.sleep(600)"
IGNORE_TERM = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('{pids}.deaf', 'w'); time.sleep(600)"
)


class Rank:
    """A launcher with a small family of processes below it: child, grandchild, and one in a session of its
    own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pids_file = folder / "pids"
        self.exit_file = folder / "exit"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, then: str = STAY, grace_seconds: float = 5.0) -> None:
        script = FAMILY.format(pids=self.pids_file, then=then.format(pids=self.pids_file))
        self.run([sys.executable, "-c", script], grace_seconds)

    def run(self, command: list[str], grace_seconds: float = 5.0) -> None:
        arguments = [str(os.getpid()), str(grace_seconds), str(self.exit_file), *command]
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", launcher.__file__, *arguments], start_new_session=True
        )

    def family(self) -> list[int]:
        """The processes of the rank, once all four are there."""
        eventually(lambda: self.pids_file.exists() and len(self.pids_file.read_text().split()) == 4)
        return [int(pid) for pid in self.pids_file.read_text().split()]

    def inner(self) -> int:
        assert self.process is not None
        return psutil.Process(self.process.pid).children()[0].pid

    def wait(self, timeout_seconds: float = 10.0) -> int:
        assert self.process is not None
        return self.process.wait(timeout_seconds)


def eventually(holds: Callable[[], bool], timeout_seconds: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not holds():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def gone(pids: list[int]) -> bool:
    return not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def rank(tmp_path: Path) -> Iterator[Rank]:
    rank = Rank(tmp_path)
    yield rank
    if rank.process is not None and rank.process.poll() is None:
        rank.process.send_signal(launcher.KILL_NOW)
        rank.process.wait(10)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "kill -9 $$"], 137),
        (["/no/such/program"], 127),
        (["/etc/hostname"], 126),
    ],
)
def test_the_exit_code_is_reported_and_written(rank: Rank, command: list[str], code: int) -> None:
    rank.run(command)
    assert rank.wait() == code
    assert rank.exit_file.read_text() == f"{code}\n"


def test_sigterm_reaches_every_descendant(rank: Rank) -> None:
    rank.start()
    family = rank.family()
    assert rank.process is not None
    rank.process.terminate()
    assert rank.wait() == 143
    assert gone(family)


def test_what_ignores_sigterm_is_killed_after_the_grace(rank: Rank) -> None:
    rank.start(IGNORE_TERM, grace_seconds=0.5)
    family = rank.family()
    eventually(lambda: Path(f"{rank.pids_file}.deaf").exists())
    assert rank.process is not None
    rank.process.terminate()
    assert rank.wait() == 137
    assert gone(family)


def test_the_grace_can_be_cut_short(rank: Rank) -> None:
    rank.start(IGNORE_TERM, grace_seconds=600)
    family = rank.family()
    eventually(lambda: Path(f"{rank.pids_file}.deaf").exists())
    assert rank.process is not None
    rank.process.terminate()
    time.sleep(0.2)
    assert rank.process.poll() is None
    rank.process.send_signal(launcher.KILL_NOW)
    assert rank.wait() == 137
    assert gone(family)


def test_what_a_command_leaves_behind_ends_with_it(rank: Rank) -> None:
    rank.start("sys.exit(5)")
    family = rank.family()
    assert rank.wait() == 5
    assert gone(family)


def test_a_killed_launcher_takes_everything_with_it(rank: Rank) -> None:
    rank.start()
    family = rank.family()
    assert rank.process is not None
    rank.process.kill()
    rank.wait()
    eventually(lambda: gone(family))


def test_a_killed_inner_process_takes_everything_with_it(rank: Rank) -> None:
    rank.start()
    family = rank.family()
    os.kill(rank.inner(), signal.SIGKILL)
    assert rank.wait() == 137
    assert rank.exit_file.read_text() == "137\n"
    assert gone(family)


def test_a_dead_agent_takes_everything_with_it(tmp_path: Path) -> None:
    pids, exit_file = tmp_path / "pids", tmp_path / "exit"
    script = FAMILY.format(pids=pids, then=STAY)
    agent = f"""
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-S", "-E", {launcher.__file__!r}, str(os.getpid()), "5",
{str(exit_file)!r}, sys.executable, "-c", {script!r}], start_new_session=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", agent])
    try:
        eventually(lambda: pids.exists() and len(pids.read_text().split()) == 4)
        family = [int(pid) for pid in pids.read_text().split()]
    finally:
        process.kill()
        process.wait()
    eventually(lambda: gone(family))
    eventually(exit_file.exists)
