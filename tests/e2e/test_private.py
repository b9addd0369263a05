"""Another user of the machine, or of its network, learns nothing from a running platform."""

import os
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from control.supervisor.instance import RunFolder
from tests.fixtures.platform import Running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def ray_folder(running_platform: Running) -> Path:
    state = RunFolder(running_platform.settings).read_state()
    assert state is not None
    return Path(state.ray_folder)


def seen_by_another(paths: list[Path]) -> set[Path]:
    """Those of which a user without rights can find out so much as that they exist."""
    done = subprocess.run(
        ["xargs", "-0", "ls", "-d"],
        input="\0".join(str(path) for path in paths),
        capture_output=True,
        text=True,
        user="nobody",
        group="nogroup",
        extra_groups=[],
        env={"PATH": os.defpath},
        cwd="/",
    )
    return {Path(line) for line in done.stdout.splitlines()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_finds_nothing(running_platform: Running, ray_folder: Path) -> None:
    home = running_platform.settings.home
    inside = [path for folder in (home, ray_folder) for path in folder.rglob("*")]
    assert {path.name for path in inside} >= {"token", "state.db", "raylet", "plasma_store"}
    assert seen_by_another([home, ray_folder, *inside]) == {home, ray_folder}


def test_what_holds_state_is_its_users_alone(running_platform: Running, ray_folder: Path) -> None:
    home = running_platform.settings.home
    private = [home, ray_folder, *(path for path in home.iterdir() if path.name.startswith("state.db"))]
    assert len(private) >= 3
    assert [path for path in private if path.stat().st_mode & 0o077] == []


def test_every_port_is_on_loopback_and_tells_strangers_no_metrics(running_platform: Running) -> None:
    pids = running_platform.platform.pids()
    listening = {
        (c.laddr.ip, c.laddr.port, psutil.Process(c.pid).name())
        for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.pid in pids
    }
    assert len(listening) > 5
    outside = {one for one in listening if one[0].removeprefix("::ffff:") not in ("127.0.0.1", "::1")}
    assert outside == set()
    settings = running_platform.settings
    own = {settings.gateway.port, settings.control.port}
    for _, port, name in listening:
        if port not in own:
            assert not tells_metrics(port), f"{name} at {port}"


def tells_metrics(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=5)
    except httpx.HTTPError:  # it speaks another protocol
        return False
    return answer.is_success
