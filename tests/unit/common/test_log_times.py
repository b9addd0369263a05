"""It is known when a log grew, within bounds, whatever was killed or written half."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import log_times
from common.bounded_log import BoundedLog, times_of
from common.log_times import LogTimes, Mark, covering, offset_at, time_of

MOST = 16


@pytest.fixture
def times(tmp_path: Path) -> LogTimes:
    (tmp_path / "1-0.log").write_bytes(b"abc")
    return LogTimes(tmp_path / "1-0.log")


def test_marks_are_kept_in_their_order(times: LogTimes) -> None:
    assert times.marks() == ()
    times.mark(1000, 3)
    times.mark(2000, 3)
    times.mark(1500, 9)
    times.mark(900, 12)
    assert times.marks() == ((1000, 3), (1500, 9), (1500, 12))


@pytest.mark.parametrize("torn", range(1, 16))
def test_half_a_note_counts_as_none_and_is_written_over(times: LogTimes, torn: int) -> None:
    times.mark(1000, 3)
    with times.path.open("ab") as file:
        file.write(b"\x01" * torn)
    assert times.marks() == ((1000, 3),)
    times.mark(2000, 9)
    assert times.marks() == ((1000, 3), (2000, 9))


@given(st.binary(max_size=400))
def test_whatever_is_in_the_file_marks_go_on_and_are_times(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        times = LogTimes(Path(folder) / "l.log")
        times.path.write_bytes(content)
        marks = times.marks()
    assert list(marks) == sorted(marks)
    assert len({mark.offset for mark in marks}) == len(marks)
    assert all(0 <= mark.time_ms < 253_402_300_800_000 for mark in marks)


def test_a_full_file_is_thinned_and_keeps_what_is_new(
    times: LogTimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_times, "MOST_MARKS", MOST)
    for number in range(1, 500):
        times.mark(number * 1000, number * 10)
        assert times.path.stat().st_size <= (MOST + 1) * 16
    marks = times.marks()
    assert marks[-4:] == tuple((number * 1000, number * 10) for number in range(496, 500))
    assert marks[0].offset <= 20, "what is old is known, more coarsely"
    assert not times.path.with_name(f"{times.path.name}.moving").exists()


MARKS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=12).map(
    lambda steps: tuple(
        Mark(sum(s[0] for s in steps[: n + 1]), sum(s[1] for s in steps[: n + 1])) for n in range(len(steps))
    )
)


@given(MARKS, st.integers(0, 400), st.integers(1, 100))
def test_what_covers_a_piece_tells_of_each_byte_what_all_marks_tell(
    marks: tuple[Mark, ...], start: int, size: int
) -> None:
    few = covering(marks, start, start + size)
    for offset in (start, start + size // 2, start + size - 1):
        assert time_of(few, offset) == time_of(marks, offset)
    assert not marks or few, "the last one tells when nothing newer was there"


@given(MARKS, st.integers(0, 700))
def test_nothing_newer_is_left_out(marks: tuple[Mark, ...], since_ms: int) -> None:
    begin = offset_at(marks, since_ms)
    for offset in range(begin):
        known = time_of(marks, offset)
        assert known is not None
        assert known <= since_ms


def test_they_go_with_their_log(times: LogTimes, tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "1-0.log")
    assert log.files() == [log.path]
    times.mark(1, 3)
    assert log.files() == [log.path, times_of(log.path)]
    assert log.end() == 3
    assert log.keep_within(1)
    assert log.end() == 3
    log.remove()
    assert list(tmp_path.iterdir()) == []
