"""Device seconds add up, however often and whenever they are derived."""

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.lifecycle.metering import due_spans


@given(
    start=st.integers(0, 10**6),
    length_ms=st.integers(0, 10**6),
    interval=st.integers(1, 120),
    looks=st.lists(st.integers(0, 10**6), max_size=8),
)
def test_the_spans_of_a_run_add_up_to_its_whole_seconds(
    start: int, length_ms: int, interval: int, looks: list[int]
) -> None:
    posted: dict[int, int] = {}
    following = 0
    for look in sorted(look for look in looks if look < length_ms):
        for span in due_spans(start, None, start + look, interval, following):
            posted[span.index], following = span.seconds, span.index + 1
    for span in due_spans(start, start + length_ms, start + length_ms, interval, following):
        posted[span.index] = span.seconds
    assert sum(posted.values()) == length_ms // 1000


@given(length_ms=st.integers(0, 10**6), interval=st.integers(1, 120))
def test_deriving_them_again_from_the_start_gives_the_same_spans(length_ms: int, interval: int) -> None:
    running = due_spans(0, None, length_ms, interval, 0)
    ended = due_spans(0, length_ms, length_ms + 10**7, interval, 0)
    assert ended[: len(running)] == running
    assert due_spans(0, length_ms, length_ms, interval, len(ended)) == []
