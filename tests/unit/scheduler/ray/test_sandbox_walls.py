"""What the walls of a cell let through: the system, what the role names, its devices, and nothing else."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from common.errors import SetupError
from scheduler.adapters.ray import sandbox
from scheduler.adapters.ray.sandbox import PROGRAM, Cell, confined, no_more_namespaces, why_not


@pytest.fixture(autouse=True)
def known_bwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has installed."""
    monkeypatch.setattr(sandbox, "no_more_namespaces", lambda: ("--disable-userns",))


def cell(tmp_path: Path, **changes: Any) -> Cell:
    values = {"readable": (), "writable": (), "network": False, "vendors": frozenset(), **changes}
    return Cell(str(tmp_path / "home"), **values)


def walls(inside: Cell) -> list[str]:
    """The options of bwrap."""
    command = confined(["job", "--x"], inside, "require", "")
    assert command[-2:] == ["job", "--x"]
    return command[command.index(PROGRAM) + 1 : command.index("--")]


def binds(options: list[str], kind: str) -> list[str]:
    """Paths shown inside where they are outside."""
    found = [options[at + 1 : at + 3] for at, word in enumerate(options) if word == kind]
    assert all(outside == within for outside, within in found)
    return [outside for outside, _ in found]


@pytest.mark.parametrize(("mode", "hindrance"), [("off", ""), ("off", "none"), ("auto", "none")])
def test_without_walls_a_command_is_as_it_was(tmp_path: Path, mode: Any, hindrance: str) -> None:
    assert confined(["job"], cell(tmp_path), mode, hindrance) == ["job"]


def test_where_walls_are_required_and_there_are_none_it_says_why(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"sandbox\.mode is require, but it is not installed"):
        confined(["job"], cell(tmp_path), "require", "it is not installed")
    assert PROGRAM in confined(["job"], cell(tmp_path), "auto", "")


def test_a_cell_has_nothing_in_common_with_the_node(tmp_path: Path) -> None:
    options = walls(cell(tmp_path))
    for wall in ("user", "pid", "ipc", "uts", "cgroup-try", "net"):
        assert f"--unshare-{wall}" in options
    assert {"--die-with-parent", "--new-session", "--disable-userns"} <= set(options)
    for name, value in (
        ("--uid", "65534"),
        ("--gid", "65534"),
        ("--proc", "/proc"),
        ("--dev", "/dev"),
        ("--tmpfs", "/tmp"),
        ("--chdir", "/"),
    ):
        assert (name, value) in list(pairwise(options))
    triples = list(zip(options, options[1:], options[2:], strict=False))
    for name, value in (("HOME", "/tmp"), ("TMPDIR", "/tmp"), ("USER", "nobody")):
        assert ("--setenv", name, value) in triples
    assert binds(options, "--bind") == []
    assert binds(options, "--dev-bind") == []


def test_the_network_comes_with_how_names_are_found(tmp_path: Path) -> None:
    alone, online = walls(cell(tmp_path)), walls(cell(tmp_path, network=True))
    assert "--unshare-net" not in online
    assert "/etc/resolv.conf" in binds(online, "--ro-bind-try")
    assert "/etc/resolv.conf" not in binds(alone, "--ro-bind-try")


def test_the_home_is_covered_and_only_what_the_role_names_comes_back(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("models/m", "blobs"):
        (home / name).mkdir(parents=True)
    (home / "blobs" / "weights").write_text("w")
    (home / "models" / "m" / "weights").symlink_to(home / "blobs" / "weights")
    readable, writable = str(home / "models" / "m"), (str(home / "jobs" / "mine"), str(home / "out"))
    options = walls(cell(tmp_path, readable=(readable,), writable=writable))
    covered = next(at for at, pair in enumerate(pairwise(options)) if pair == ("--tmpfs", str(home)))
    after = options[covered:]
    assert binds(after, "--ro-bind-try") == [readable, str(home / "blobs")], "where its links lead, too"
    assert binds(after, "--bind") == list(writable)
    assert not [path for path in binds(options[:covered], "--ro-bind") if path.startswith(str(home))]
    assert ("--chdir", writable[0]) in list(pairwise(options))
    assert all(Path(path).is_dir() and Path(path).stat().st_mode & 0o077 == 0 for path in writable)


def test_only_the_device_files_of_its_vendors_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {
        "/dev/nvidia*": ["/dev/nvidia1", "/dev/nvidia0"],
        "/dev/dri": ["/dev/dri"],
        "/dev/kfd": ["/dev/kfd"],
    }
    monkeypatch.setattr(sandbox, "glob", lambda pattern: there.get(pattern, []))

    def shown(*vendors: str) -> list[str]:
        return binds(walls(cell(tmp_path, vendors=frozenset(vendors))), "--dev-bind")

    assert shown() == shown("cpu") == []
    assert shown("nvidia") == ["/dev/nvidia0", "/dev/nvidia1"]
    assert shown("amd", "mthreads") == ["/dev/dri", "/dev/kfd"]


def test_a_program_is_found_and_python_can_import_what_it_could(tmp_path: Path) -> None:
    options = walls(cell(tmp_path))
    shown = binds(options, "--ro-bind")
    product = Path(sandbox.__file__).resolve().parents[3]
    for path in (sys.prefix, sys.base_prefix, str(product)):
        assert any(Path(path).is_relative_to(above) for above in (*shown, *sandbox.SYSTEM)), path
    assert not [(a, b) for a in shown for b in shown if a != b and Path(a).is_relative_to(b)]
    assert "/" not in shown
    for path in ("/usr", "/etc/passwd", "/etc/ssl"):
        assert path in binds(options, "--ro-bind-try")


def test_a_link_of_the_system_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "islink", lambda path: path in ("/bin", "/etc/localtime"))
    monkeypatch.setattr(os, "readlink", lambda path: "usr/bin")
    assert sandbox._show("/bin") == ["--symlink", "usr/bin", "/bin"]
    assert sandbox._show("/etc/localtime") == ["--ro-bind-try"] + ["/etc/localtime"] * 2
    assert sandbox._show("/usr") == ["--ro-bind-try", "/usr", "/usr"]


class Done:
    def __init__(self, returncode: int, stderr: str = "") -> None:
        self.returncode, self.stderr = returncode, stderr


@pytest.mark.parametrize(
    ("done", "told"),
    [
        (Done(0), ""),
        (Done(1, "a\nno permission\n"), "bwrap does not work here: no permission; the system has to allow"),
        (Done(3), "bwrap does not work here: exit code 3"),
        (OSError("gone"), "bwrap cannot be run: gone"),
        (subprocess.TimeoutExpired("bwrap", 10), "bwrap cannot be run"),
    ],
)
def test_why_there_are_no_walls_is_told(monkeypatch: pytest.MonkeyPatch, done: Any, told: str) -> None:
    def run(command: list[str], **_: object) -> Done:
        assert command[0] == PROGRAM
        if isinstance(done, Exception):
            raise done
        return done

    monkeypatch.setattr(sandbox.shutil, "which", lambda name: "/usr/bin/bwrap")
    sandbox._import_folders()
    monkeypatch.setattr(sandbox.subprocess, "run", run)
    assert why_not().startswith(told)
    assert bool(why_not()) is bool(told)
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    assert "bwrap is not installed" in why_not()


@pytest.mark.parametrize(("outcome", "options"), [(0, ("--disable-userns",)), (1, ()), (OSError("x"), ())])
def test_namespaces_of_its_own_are_forbidden_where_bwrap_can(
    monkeypatch: pytest.MonkeyPatch, outcome: Any, options: tuple[str, ...]
) -> None:
    def run(command: list[str], **_: object) -> Done:
        assert "--disable-userns" in command
        if isinstance(outcome, Exception):
            raise outcome
        return Done(outcome)

    monkeypatch.setattr(sandbox.subprocess, "run", run)
    assert no_more_namespaces.__wrapped__() == options


ARGUMENTS = {"--unshare-user": 0, "--disable-userns": 0, "--ro-bind": 2, "--proc": 1, "--dev": 1}
"""How many words each option of bwrap takes."""


@pytest.mark.parametrize("knows", [True, False])
def test_what_bwrap_can_do_is_asked_in_a_cell_that_would_work(
    monkeypatch: pytest.MonkeyPatch, knows: bool
) -> None:
    """Else it refuses the question, and every cell goes without the wall."""
    asked: dict[str, list[str]] = {}

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        words = iter(command[1 : command.index("--")])
        asked.update((word, [next(words) for _ in range(ARGUMENTS[word])]) for word in words)
        return subprocess.CompletedProcess(command, 0 if knows else 1)

    monkeypatch.setattr(subprocess, "run", run)
    assert no_more_namespaces.__wrapped__() == (("--disable-userns",) if knows else ())
    assert asked == {
        "--unshare-user": [],
        "--disable-userns": [],
        "--ro-bind": ["/", "/"],
        "--proc": ["/proc"],
        "--dev": ["/dev"],
    }
