"""The walls of a cell are these and no others, and what this node can do is tried with the same."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scheduler.adapters.ray import sandbox
from scheduler.adapters.ray.sandbox import Cell, confined, no_more_namespaces, why_not

ISOLATED_PYTHON = [sys.executable, "-S", "-E", "-c"]
LINKS = {"/bin": "usr/bin", "/lib64": "usr/lib64", "/etc/localtime": "../usr/share/zoneinfo/UTC"}
SYSTEM = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/sys"]
SETTINGS = """
    /etc/alternatives /etc/ca-certificates /etc/group /etc/hosts /etc/ld.so.cache /etc/ld.so.conf
    /etc/ld.so.conf.d /etc/localtime /etc/nsswitch.conf /etc/passwd /etc/pki /etc/ssl /etc/vulkan
    /etc/OpenCL /etc/ascend_install.info
"""
NETWORK = ["/etc/resolv.conf", "/etc/gai.conf", "/etc/services"]
NAMESPACES = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]


def shown(path: str) -> list[str]:
    if path in LINKS and not path.startswith("/etc"):
        return ["--symlink", LINKS[path], path]
    return ["--ro-bind-try", path, path]


def bound(option: str, *paths: str) -> list[str]:
    return [word for path in paths for word in (option, path, path)]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system with these links, a Python in one folder, and a bwrap that can all."""
    sandbox._import_folders()
    readlink = os.readlink
    monkeypatch.setattr(os.path, "islink", lambda path: path in LINKS)
    monkeypatch.setattr(os, "readlink", lambda path, **how: LINKS.get(path) or readlink(path, **how))
    monkeypatch.setattr(sandbox, "_of_python", lambda: ["/srv/python"])
    monkeypatch.setattr(sandbox, "no_more_namespaces", lambda: ("--disable-userns",))
    monkeypatch.setattr(sandbox, "glob", lambda pattern: [f"{pattern}0"] if "nvidia" in pattern else [])


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("network", [False, True])
def test_a_rank_in_a_cell_is_started_with_these_walls(tmp_path: Path, network: bool) -> None:
    read, write = str(tmp_path / "read"), (str(tmp_path / "one"), str(tmp_path / "two"))
    cell = Cell("/home/platform", (read,), write, network, frozenset({"nvidia"}))
    command = confined(["job", "--x"], cell, "require", "")
    start, deaf, after = command[:4], command[4], command[5:]
    assert start == ISOLATED_PYTHON
    end = after.index("--")
    devices = [word for word in after[:end] if word.endswith("0") and word.startswith("/dev/")]
    assert after[:end] == [
        "bwrap",
        *NAMESPACES,
        *([] if network else ["--unshare-net"]),
        "--disable-userns",
        *("--uid", "65534", "--gid", "65534", "--die-with-parent", "--new-session"),
        *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
        *(word for path in (*SYSTEM, *SETTINGS.split()) for word in shown(path)),
        *(bound("--ro-bind-try", *NETWORK) if network else []),
        *bound("--ro-bind", "/srv/python"),
        *("--tmpfs", "/home/platform"),
        *bound("--ro-bind-try", read),
        *bound("--bind", *write),
        *bound("--dev-bind", *sorted(set(devices))),
        *("--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp", "--setenv", "USER", "nobody"),
        *("--setenv", "RANK_IN_CELL", "1"),
        *("--chdir", write[0]),
    ]
    assert devices
    restored = after[end + 1 :]
    assert (restored[:4], restored[5:]) == (ISOLATED_PYTHON, ["job", "--x"])
    assert deaf.replace("SIG_IGN", "SIG_DFL") == restored[4], "what is taken is given back"


class Asked:
    """Programs that are run; each ends as ``done`` says."""

    def __init__(self, done: Any) -> None:
        self.done = done
        self.calls: list[tuple[list[str], dict[str, Any]]] = []

    def __call__(self, command: list[str], **how: Any) -> Any:
        self.calls.append((command, how))
        if isinstance(self.done, Exception):
            raise self.done
        return self.done


def ended(code: int, out: Any = "", err: Any = "") -> subprocess.CompletedProcess[Any]:
    return subprocess.CompletedProcess([], code, out, err)


@pytest.mark.usefixtures("system")
def test_whether_there_are_walls_is_tried_with_a_cell_that_has_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(ended(0))
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", asked)
    assert why_not() == ""
    ((command, how),) = asked.calls
    confines = confined(["x"], Cell("/nonexistent", (), (), network=False, vendors=frozenset()), "auto", "")
    walls = confines[confines.index("bwrap") : confines.index("--")]
    assert command == [*walls, "--", *ISOLATED_PYTHON, ""]
    assert ("--unshare-net" in command, command[-8:-6]) == (True, ["--chdir", "/"])
    assert how == {"capture_output": True, "text": True, "timeout": 10.0, "check": False}


def test_whether_namespaces_can_be_forbidden_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(ended(0))
    monkeypatch.setattr(subprocess, "run", asked)
    assert no_more_namespaces.__wrapped__() == ("--disable-userns",)
    ((command, how),) = asked.calls
    seen = ["--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    assert command == ["bwrap", *seen, "--", *ISOLATED_PYTHON, ""]
    assert how == {"capture_output": True, "timeout": 10.0, "check": False}
    for failure in (ended(1), OSError("none"), subprocess.TimeoutExpired("bwrap", 10)):
        asked.done = failure
        assert no_more_namespaces.__wrapped__() == ()


def test_where_python_imports_from_is_what_a_new_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(ended(0, "/lib/python\n/site\n"))
    monkeypatch.setattr(subprocess, "run", asked)
    assert sandbox._import_folders.__wrapped__() == ("/lib/python", "/site")
    ((command, how),) = asked.calls
    assert (command[:2], len(command)) == ([sys.executable, "-c"], 3)
    assert how == {"cwd": "/", "capture_output": True, "text": True, "timeout": 10.0, "check": False}
