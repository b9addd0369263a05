"""Lines with the times that the node has noted, in whatever pieces they come."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import rfc3339
from common.errors import NotFound
from common.log_times import Mark, covering
from control.api.log_lines import Stamps, after_line_end, require_times
from scheduler.ports import LogChunk

LOG = b"one\ntwo\n\nthree"
MARKS = (Mark(1000, 4), Mark(9000, 9))
NOW_MS = 60_000


def chunk(start: int, end: int, marks: tuple[Mark, ...] = MARKS, log: bytes = LOG) -> LogChunk:
    data = log[start:end]
    return LogChunk(data, start + len(data), len(log), covering(marks, start, start + len(data)))


@given(st.lists(st.integers(0, len(LOG)), max_size=4))
def test_pieces_change_nothing(cuts: list[int]) -> None:
    edges = sorted({0, len(LOG), *cuts})
    stamps = Stamps(ended=False)
    text = b"".join(stamps.put(chunk(a, b), NOW_MS) for a, b in itertools.pairwise(edges))
    assert text.decode().splitlines() == [
        f"{rfc3339(1000)} one",
        f"{rfc3339(9000)} two",
        f"{rfc3339(9000)} ",
        f"{rfc3339(NOW_MS)} three",
    ]


@given(st.binary(max_size=40))
def test_without_the_times_it_is_the_log(log: bytes) -> None:
    text = Stamps(ended=True).put(chunk(0, len(log), log=log), NOW_MS)
    stamp = re.compile(rb"^\d{4}-\d\d-\d\dT[^ ]+ ", re.MULTILINE)
    assert stamp.sub(b"", text).replace(b"\r", b"") == stamp.sub(b"", log).replace(b"\r", b"")


def test_what_was_printed_last_is_as_old_as_the_last_note_where_nothing_comes_any_more() -> None:
    assert Stamps(ended=True).put(chunk(9, 14), NOW_MS).decode() == f"{rfc3339(9000)} three"


def test_a_log_without_times_is_told() -> None:
    with pytest.raises(NotFound, match="leave out --since"):
        require_times(LogChunk(b"", 0, 5))
    require_times(LogChunk(b"", 0, 0))
    require_times(LogChunk(b"", 0, 5, MARKS))


@pytest.mark.parametrize(("begin", "rest"), [(4, b"two\n\nthree"), (5, b"\nthree"), (10, b"hree")])
def test_a_log_is_read_from_a_whole_line_on(begin: int, rest: bytes) -> None:
    assert after_line_end(chunk(begin - 1, len(LOG))).data == rest
