"""Device seconds add up, however often and whenever they are derived."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.lifecycle.metering import Span, device_seconds, due_spans

LENGTHS_MS = st.one_of(st.integers(0, 3000), st.integers(0, 10**6))


@given(
    start=st.integers(0, 10**6),
    length_ms=LENGTHS_MS,
    interval=st.integers(1, 120),
    millis=st.integers(1, 16_000),
    looks=st.lists(st.integers(0, 10**6), max_size=8),
)
def test_what_a_run_is_charged_is_its_device_time_rounded_up_once(
    start: int, length_ms: int, interval: int, millis: int, looks: list[int]
) -> None:
    posted: dict[int, Span] = {}
    following = 0
    for look in sorted(look for look in looks if look < length_ms):
        for span in due_spans(start, None, start + look, interval, following):
            posted[span.index], following = span, span.index + 1
    for span in due_spans(start, start + length_ms, start + length_ms, interval, following):
        posted[span.index] = span
    charged = [device_seconds(start, span, millis) for span in posted.values()]
    assert all(seconds >= 0 for seconds in charged)
    assert sum(charged) == math.ceil(Fraction(millis, 1000) * Fraction(length_ms, 1000))
    assert sum(span.ended_ms - span.started_ms for span in posted.values()) == length_ms


@given(length_ms=LENGTHS_MS, interval=st.integers(1, 120))
def test_deriving_them_again_from_the_start_gives_the_same_spans(length_ms: int, interval: int) -> None:
    running = due_spans(0, None, length_ms, interval, 0)
    ended = due_spans(0, length_ms, length_ms + 10**7, interval, 0)
    assert ended[: len(running)] == running
    assert due_spans(0, length_ms, length_ms, interval, len(ended)) == []


@pytest.mark.parametrize(
    ("length_ms", "millis", "seconds"),
    [(1, 1000, 1), (300, 250, 1), (1000, 1000, 1), (1001, 1000, 2), (1200, 4000, 5), (0, 1000, 0)],
)
def test_no_run_is_free_and_none_a_device_second_too_dear(length_ms: int, millis: int, seconds: int) -> None:
    spans = due_spans(0, length_ms, length_ms, 60, 0)
    assert sum(device_seconds(0, span, millis) for span in spans) == seconds
