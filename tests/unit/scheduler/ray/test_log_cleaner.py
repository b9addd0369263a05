"""Logs of processes that ended long ago go; those of live ones stay, however quiet they are."""

import os
from pathlib import Path

import pytest

from common.retention import DAY_MS
from scheduler.adapters.ray.log_cleaner import LogCleaner

NOW_MS = 1_700_000_000_000


def written(logs: Path, name: str, days: float) -> Path:
    path = logs / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x" * 100)
    seconds = NOW_MS / 1000 - days * 86_400
    os.utime(path, (seconds, seconds))
    return path


def test_old_logs_of_ended_processes_go_and_nothing_else(tmp_path: Path) -> None:
    old = written(tmp_path, "p.w/1-0.log", 15)
    quiet = written(tmp_path, "p.w/2-0.log", 15)
    recent = written(tmp_path, "p.w/2-1.log", 13)
    others = [written(tmp_path, name, 99) for name in ("control.log", "p.w/notes.log", "gateway/1-0.log")]
    cleaner = LogCleaner(tmp_path, days=14, size_bytes=0)
    ours = written(tmp_path, "workloads/uid-1/1-0.log", 15)
    assert set(cleaner.sweep({quiet}, NOW_MS)) == {old, ours}
    assert cleaner.sweep({quiet}, NOW_MS) == []
    assert all(path.exists() for path in (quiet, recent, *others))


def test_a_log_that_another_nodes_agent_has_touched_stays(tmp_path: Path) -> None:
    log = written(tmp_path, "p.w/1-0.log", 15)
    LogCleaner(tmp_path, days=14, size_bytes=0).sweep({log}, NOW_MS)
    assert LogCleaner(tmp_path, days=14, size_bytes=1).sweep(set(), NOW_MS) == []
    assert LogCleaner(tmp_path, days=14, size_bytes=0).sweep(set(), NOW_MS + 15 * DAY_MS) == [log]


@pytest.mark.parametrize(("limit_bytes", "left"), [(250, 2), (1, 0), (0, 3)])
def test_the_oldest_go_first_where_there_are_too_many_bytes(
    tmp_path: Path, limit_bytes: int, left: int
) -> None:
    logs = [written(tmp_path, f"p.w{days}/1-0.log", days) for days in (1, 2, 3)]
    LogCleaner(tmp_path, days=14, size_bytes=limit_bytes).sweep(set(), NOW_MS)
    assert [path for path in logs if path.exists()] == logs[:left]


@pytest.mark.parametrize("folder", ["p.w", "workloads/uid-1"])
def test_empty_folders_go_later(tmp_path: Path, folder: str) -> None:
    log = written(tmp_path, f"{folder}/1-0.log", 15)
    cleaner = LogCleaner(tmp_path, days=14, size_bytes=0)
    cleaner.sweep(set(), NOW_MS)
    changed_ms = round(log.parent.stat().st_mtime * 1000)
    cleaner.remove_empty_folders(changed_ms + 1000)
    assert log.parent.exists()
    cleaner.remove_empty_folders(changed_ms + DAY_MS)
    assert not log.parent.exists()
