"""What the command of a job gets, as a real process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.environment import CELL_VARIABLE
from jobs.rank import environment_of

ROOT = Path(__file__).resolve().parents[3]


FILE_BYTES, PROCESSES = 100_000, 4321


def run(
    folder: Path, command: list[str], env: dict[str, str] | None = None, **around: str
) -> subprocess.CompletedProcess[str]:
    (folder / "files").mkdir(exist_ok=True)
    order = {"command": command, "env": env or {}, "output": "output"}
    (folder / "job.json").write_text(json.dumps({**order, "file_bytes": FILE_BYTES, "processes": PROCESSES}))
    return subprocess.run(
        [sys.executable, "-m", "jobs.rank", str(folder)],
        env={"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "PATH": "/usr/bin:/bin", **around},
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_a_rank_alone_is_told_its_place() -> None:
    env = environment_of({}, {}, "/venv/bin/python", "/o", 4711)
    place = {name: env[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
    assert list(place.values()) == ["0", "1", "0", "127.0.0.1", "4711"]


def test_one_of_many_keeps_what_the_node_says() -> None:
    env = environment_of({"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "n"}, {}, "/v/python", "/o", 1)
    assert (env["RANK"], env["WORLD_SIZE"], env["MASTER_ADDR"]) == ("3", "4", "n")


def test_the_command_runs_in_its_folder_with_the_platforms_python(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "json.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "files" / "x.py").write_text(
        "import os, sys; open(os.environ['COMPUTILITY_OUTPUT'] + '/r', 'w').write(os.environ['A'])\n"
        "print(os.getcwd(), sys.prefix, 'PYTHONSAFEPATH' in os.environ); sys.exit(7)"
    )
    done = run(tmp_path, ["python", "x.py"], {"A": "b"})
    assert done.returncode == 7, done.stderr
    assert done.stdout.split() == [str(tmp_path / "files"), sys.prefix, "False"]
    assert (tmp_path / "files" / "output" / "r").read_text() == "b"


def test_no_file_is_larger_than_the_folder_may_be_and_memory_is_taken_from_it_first(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "x.py").write_text(
        "import resource\n"
        "print(open('/proc/self/oom_score_adj').read().strip(), resource.getrlimit(resource.RLIMIT_CORE))\n"
        "for more in (0, 1):\n"
        f"    with open(f'file{{more}}', 'wb') as file: file.write(bytes({FILE_BYTES} + more))\n"
    )
    done = run(tmp_path, ["python", "x.py"])
    assert done.stdout.strip() == "1000 (0, 0)"
    assert "File too large" in done.stderr
    assert (tmp_path / "files" / "file0").stat().st_size == FILE_BYTES


@pytest.mark.parametrize("in_cell", [True, False])
def test_processes_are_bound_in_a_cell_only(tmp_path: Path, in_cell: bool) -> None:
    """Elsewhere all that the platform's user runs would count."""
    look = (
        "import os, resource; print(resource.getrlimit(resource.RLIMIT_NPROC), 'RANK_IN_CELL' in os.environ)"
    )
    around = {CELL_VARIABLE: "1"} if in_cell else {}
    done = run(tmp_path, ["python", "-c", look], None, **around)
    assert (str((PROCESSES, PROCESSES)) in done.stdout) == in_cell, done.stderr
    assert "False" in done.stdout


@pytest.mark.parametrize(("command", "code"), [("no-such-program", 127), ("./data", 126)])
def test_what_is_no_program_is_said(tmp_path: Path, command: str, code: int) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "data").write_text("x")
    done = run(tmp_path, [command])
    assert done.returncode == code
    assert command in done.stderr


def test_a_node_without_the_folder_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.rank", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 126
    assert "COMPUTILITY_HOME" in done.stderr
