"""What is renamed into place is on disk before anything names it."""

import os
from pathlib import Path

import pytest

from common.durable import put_in_place


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Syncs and renames in the order in which they are made, by name."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        done.append(f"rename {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    return done


def test_a_file_and_the_folders_above_it_are_on_disk(tmp_path: Path, steps: list[str]) -> None:
    work, target = tmp_path / "work", tmp_path / "ab" / "cd" / "blob"
    work.write_bytes(b"content")
    put_in_place(work, target)
    assert target.read_bytes() == b"content"
    root = tmp_path.name
    assert steps == ["sync work", f"sync {root}", "sync ab", "rename blob", "sync cd"]


def test_a_folder_is_on_disk_with_all_that_is_in_it(tmp_path: Path, steps: list[str]) -> None:
    work, target = tmp_path / "work", tmp_path / "adapter"
    (work / "inner").mkdir(parents=True)
    (work / "inner" / "weights").write_bytes(b"1")
    (work / "config").write_bytes(b"2")
    put_in_place(work, target)
    assert (target / "inner" / "weights").read_bytes() == b"1"
    before = steps[: steps.index("rename adapter")]
    assert sorted(before) == ["sync config", "sync inner", "sync weights", "sync work"]
    assert before.index("sync weights") < before.index("sync inner") < before.index("sync work")
    assert steps[-1] == f"sync {tmp_path.name}"


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    work, target = tmp_path / "work", tmp_path / "file"
    target.write_text("old")
    work.write_text("new")
    put_in_place(work, target)
    assert target.read_text() == "new"
    assert not work.exists()
