"""A log stays small while its process writes; who reads along misses nothing and reads nothing twice."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import bounded_log
from common.bounded_log import BoundedLog

LIMIT = 100


@pytest.fixture
def log(tmp_path: Path) -> BoundedLog:
    (tmp_path / "1-0.log").touch()
    return BoundedLog(tmp_path / "1-0.log")


def append(log: BoundedLog, data: bytes) -> None:
    with log.path.open("ab") as file:
        file.write(data)


def kept(log: BoundedLog) -> int:
    return sum(path.stat().st_size for path in log.path.parent.iterdir())


def test_a_process_writes_on_into_the_same_file(log: BoundedLog) -> None:
    with log.path.open("ab", buffering=0) as held:
        held.write(b"a" * 101)
        assert log.keep_within(LIMIT)
        held.write(b"b" * 10)
    assert log.path.read_bytes() == b"b" * 10
    assert log.read(0, 1000) == (b"a" * 101 + b"b" * 10, 111, 111)


@pytest.mark.parametrize("limit_bytes", [0, 101])
def test_what_is_within_the_limit_stays(log: BoundedLog, limit_bytes: int) -> None:
    append(log, b"a" * 101)
    assert not log.keep_within(limit_bytes)
    assert log.path.stat().st_size == 101


def test_of_a_flood_the_end_is_kept(log: BoundedLog) -> None:
    append(log, b"a" * 10_000 + b"end")
    log.keep_within(LIMIT)
    assert kept(log) == LIMIT
    assert log.tail(3) == "end"
    assert log.read(0, 1000) == (b"a" * 97 + b"end", 10_003, 10_003)


def test_a_log_that_is_gone_is_no_matter(log: BoundedLog) -> None:
    log.path.unlink()
    assert not log.keep_within(LIMIT)
    with pytest.raises(FileNotFoundError):
        log.read(0, 10)


def test_without_room_for_a_copy_the_log_is_emptied(log: BoundedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    append(log, b"a" * 101)

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    assert log.keep_within(LIMIT)
    assert kept(log) == 0
    assert os.listdir(log.path.parent) == ["1-0.log"]


def test_what_was_moved_is_the_owners_alone(log: BoundedLog) -> None:
    append(log, b"a" * 101)
    log.keep_within(LIMIT)
    earlier, _ = log.files()
    assert earlier.stat().st_mode & 0o077 == 0


def test_all_of_it_is_removed(log: BoundedLog) -> None:
    append(log, b"a" * 101)
    log.keep_within(LIMIT)
    log.remove()
    assert list(log.path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("limit_bytes", "text"), [(100, "one\ntwo\nthree"), (12, "two\nthree"), (8, "three")]
)
def test_the_tail_has_whole_lines_on_both_sides_of_a_move(
    log: BoundedLog, limit_bytes: int, text: str
) -> None:
    append(log, b"one\ntwo\n")
    assert log.keep_within(7) is True
    append(log, b"three\n")
    assert log.tail(limit_bytes) == text


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_reader_that_follows_misses_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    log = BoundedLog(tmp_path_factory.mktemp("log") / "1-0.log")
    log.path.touch()
    written, seen, offset, number = b"", b"", 0, 0
    for piece in data.draw(st.lists(st.integers(0, 90), max_size=30)):
        line = b"".join(b"%d," % (number + i) for i in range(piece))[:90]
        number += piece
        append(log, line)
        written += line
        log.keep_within(LIMIT)
        assert kept(log) <= 4 * LIMIT
        end = -1
        while offset != end:
            chunk, offset, end = log.read(offset, data.draw(st.integers(1, 200)))
            seen += chunk
    assert seen == written
    last, _, end = log.read(-50, 50)
    assert (written.endswith(last), end) == (True, len(written))


def test_what_is_written_while_a_log_is_moved_is_not_lost_where_the_file_system_can(
    log: BoundedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, block = Path.rename, log.path.stat().st_blksize
    append(log, b"a" * (3 * block + 7))
    with log.path.open("r+b") as file:
        if not bounded_log._collapsed(file, block):
            pytest.skip("this file system takes no blocks out of a file")

    def slow_rename(path: Path, target: Path) -> Path:
        append(log, b"meanwhile ")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", slow_rename)
    assert log.keep_within(2 * block)
    monkeypatch.undo()
    append(log, b"END")
    everything = b"a" * (2 * block + 7) + b"meanwhile END"
    assert log.read(0, 10 * block) == (everything, len(everything), len(everything))
    assert 0 < log.path.stat().st_size < block


def test_where_the_file_system_cannot_the_log_is_emptied(
    log: BoundedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = log.path.stat().st_blksize
    monkeypatch.setattr(bounded_log, "_collapsed", lambda log, size_bytes: False)
    everything = b"a" * (2 * block + 7)
    append(log, everything)
    assert log.keep_within(2 * block)
    assert log.path.read_bytes() == b""
    assert log.read(0, 10 * block) == (everything, len(everything), len(everything))
    assert len(log.files()) == 2
