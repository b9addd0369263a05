"""The supervisor with real processes that need no engine."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from common.clock import SYSTEM_CLOCK
from common.errors import Conflict, SetupError
from common.ids import new_id
from common.settings import Settings, load_settings
from control.supervisor.child import ChildSpec, Launch
from control.supervisor.instance import RunFolder, SupervisorState
from control.supervisor.ports import free_ports, require_free
from control.supervisor.supervisor import Supervisor, clean_up
from control.supervisor.sweep import pids_of, sweep

pytestmark = pytest.mark.integration

SLEEP = "import time; time.sleep(120)"
FAMILY = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SLEEP!r}], env={{}}, start_new_session=True)
time.sleep(120)
"""


@pytest.fixture
def instance() -> Iterator[str]:
    """An instance id of this test; whatever still carries it afterwards is killed."""
    name = new_id("ins")
    yield name
    sweep(name, grace_seconds=0)


def spawn(code: str, instance: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "COMPUTILITY_INSTANCE": instance}
    return subprocess.Popen([sys.executable, "-c", code], env=env, start_new_session=True)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(holds: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def spec(
    name: str, code: str, instance: str, folder: Path, after: str = "", ready: Path | None = None
) -> ChildSpec:
    env = {**os.environ, "COMPUTILITY_INSTANCE": instance}
    return ChildSpec(
        name,
        lambda: Launch([sys.executable, "-c", code], env),
        lambda: ready is None or ready.exists(),
        folder / f"{name}.log",
        after=after,
        stop_seconds=5,
    )


def run(supervisor: Supervisor, until: Callable[[], bool], seconds: float = 20.0) -> None:
    def step() -> bool:
        supervisor.step()
        return until()

    eventually(step, seconds)


def test_a_port_in_use_is_named_with_its_holder_and_the_way_out() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(SetupError) as raised:
            require_free("127.0.0.1", port, "gateway", "--gateway-port", "COMPUTILITY_GATEWAY__PORT")
    message = raised.value.message
    assert f"port {port}" in message
    assert f"(pid {os.getpid()})" in message
    assert "--gateway-port PORT or COMPUTILITY_GATEWAY__PORT=PORT" in message


def test_up_refuses_a_port_in_use_with_exit_code_7(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        command = [sys.executable, "-m", "control.cli.main", "--home", str(tmp_path), "up"]
        done = subprocess.run(
            [*command, "--gateway-port", str(port), "--control-port", str(free_ports(1)[0])],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 7
    assert f"port {port}" in done.stderr
    assert "--gateway-port" in done.stderr
    assert "Traceback" not in done.stderr


def test_orphans_and_their_children_are_found_and_ended(instance: str) -> None:
    parent = spawn(FAMILY, instance)
    eventually(lambda: len(pids_of(instance)) == 2)
    family = pids_of(instance)
    count, left = sweep(instance, grace_seconds=5)
    parent.wait()
    assert (count, left) == (2, set())
    assert not any(is_alive(pid) for pid in family)


def test_a_process_that_ignores_sigterm_is_killed(instance: str) -> None:
    stubborn = spawn(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}", instance)
    eventually(lambda: bool(pids_of(instance)))
    time.sleep(0.3)
    assert sweep(instance, grace_seconds=0.5) == (1, set())
    assert stubborn.wait() == -signal.SIGKILL


def test_a_process_without_the_variable_is_found_by_the_log_that_it_writes(
    instance: str, tmp_path: Path
) -> None:
    with (tmp_path / "rank-0.log").open("w") as log:
        writer = subprocess.Popen([sys.executable, "-c", SLEEP], stdout=log)
    reader = subprocess.Popen(["tail", "-f", str(tmp_path / "rank-0.log")], stdout=subprocess.DEVNULL)
    try:
        assert pids_of(instance, [tmp_path]) == {writer.pid}
    finally:
        for process in (writer, reader):
            process.kill()
            process.wait()


def test_a_child_that_is_killed_is_started_again(instance: str, tmp_path: Path) -> None:
    supervisor = Supervisor([spec("a", SLEEP, instance, tmp_path)])
    run(supervisor, lambda: supervisor.all_ready)
    first = supervisor.children["a"].pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    run(supervisor, lambda: supervisor.children["a"].starts == 2 and supervisor.all_ready)
    assert supervisor.children["a"].pid != first
    ended, back = supervisor.take_told()
    assert ended == f"a ended by SIGKILL and is started again; its log: {tmp_path / 'a.log'}"
    assert back.startswith("a is ready again after ")
    assert supervisor.take_told() == []
    supervisor.stop(["a"])
    assert pids_of(instance) == set()
    assert supervisor.take_told() == [], "that it was stopped is no news"


def test_a_child_waits_for_the_one_before_it_and_starts_anew_after_it(instance: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    supervisor = Supervisor(
        [
            spec("ray", SLEEP, instance, tmp_path, ready=ready),
            spec("control", SLEEP, instance, tmp_path, after="ray"),
            spec("gateway", SLEEP, instance, tmp_path),
        ]
    )
    run(supervisor, lambda: supervisor.children["gateway"].state == "ready")
    assert supervisor.children["control"].starts == 0
    ready.touch()
    run(supervisor, lambda: supervisor.all_ready)
    control, gateway = supervisor.children["control"].pid, supervisor.children["gateway"].pid
    ray = supervisor.children["ray"].pid
    assert ray is not None
    os.kill(ray, signal.SIGKILL)
    run(supervisor, lambda: supervisor.children["control"].starts == 2 and supervisor.all_ready)
    assert supervisor.children["control"].pid != control
    assert supervisor.children["gateway"].pid == gateway
    assert supervisor.take_told()[0].startswith("ray ended by SIGKILL and is started again, control with it;")
    supervisor.stop(["gateway", "control", "ray"])


def test_a_child_that_is_to_give_way_has_less_weight(instance: str, tmp_path: Path) -> None:
    plain = spec("a", SLEEP, instance, tmp_path)
    launch = replace(plain.launch(), niceness=7)
    supervisor = Supervisor([replace(plain, launch=lambda: launch)])
    run(supervisor, lambda: supervisor.all_ready)
    pid = supervisor.children["a"].pid
    assert psutil.Process(pid).nice() == os.getpriority(os.PRIO_PROCESS, 0) + 7
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists():
        assert group.read_text().split()[-1] == "7"
    supervisor.stop(["a"])


def test_a_child_that_cannot_start_ends_the_start_with_its_log(instance: str, tmp_path: Path) -> None:
    supervisor = Supervisor(
        [spec("a", "raise SystemExit('no such table')", instance, tmp_path, ready=tmp_path / "x")]
    )

    def given_up() -> bool:
        try:
            supervisor.require_hope()
        except SetupError as error:
            return "no such table" in error.message
        return False

    run(supervisor, given_up)


def test_one_home_has_one_up(tmp_path: Path) -> None:
    run_folder = RunFolder(settings(tmp_path))
    with run_folder.lock():
        with pytest.raises(Conflict, match=rf"`up` is pid {os.getpid()}"):
            run_folder.lock()
        assert run_folder.lock_holder() == os.getpid()
    assert run_folder.lock_holder() is None
    run_folder.lock().close()


def test_instance_and_token_stay_and_are_private(tmp_path: Path) -> None:
    first, second = RunFolder(settings(tmp_path)), RunFolder(settings(tmp_path))
    assert (first.instance(), first.token()) == (second.instance(), second.token())
    assert {path.stat().st_mode & 0o777 for path in first.path.iterdir()} == {0o600}


def test_down_ends_what_a_killed_up_left(tmp_path: Path) -> None:
    run_folder = RunFolder(settings(tmp_path))
    instance = run_folder.instance()
    ray_folder = tmp_path / "computility-ray"
    ray_folder.mkdir()
    now = SYSTEM_CLOCK.now_ms()
    run_folder.write_state(SupervisorState(1, instance, "ready", now, "", "", ray_folder=str(ray_folder)))
    orphan = spawn(FAMILY, instance)
    eventually(lambda: len(pids_of(instance)) == 2)
    done = subprocess.run(
        [sys.executable, "-m", "control.cli.main", "--home", str(tmp_path), "down"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    orphan.wait()
    assert done.returncode == 0, done.stderr
    assert "stopped 2 processes" in done.stdout
    assert pids_of(instance) == set()
    assert not ray_folder.exists()
    assert clean_up(run_folder, settings(tmp_path)) == 0


def settings(home: Path) -> Settings:
    return load_settings(home=home)


def test_the_log_of_a_child_stays_small_and_what_it_writes_is_private(instance: str, tmp_path: Path) -> None:
    code = f"""
import os, time
open({str(tmp_path / "made")!r}, "w").close()
for number in range(40):
    print(f"{{number:3}} " + "x" * 5000, flush=True)
    time.sleep(0.02)
print("END", flush=True)
time.sleep(120)
"""
    plain = spec("a", code, instance, tmp_path)
    supervisor = Supervisor([replace(plain, log_bytes=20_000)])
    run(supervisor, lambda: "END" in supervisor.children["a"].log_tail())
    sizes = [path.stat().st_size for path in tmp_path.glob("a.log*")]
    assert sum(sizes) < 60_000
    assert supervisor.children["a"].log_tail(2).startswith(" 39 ")
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0
    supervisor.stop(["a"])
