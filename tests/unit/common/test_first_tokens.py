"""How late first tokens are, from engines' histograms."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.first_tokens import LEAST_TOKENS, WINDOW_MS, FirstTokens, percentile

INFINITE = float("inf")


def test_a_percentile_lies_within_its_bucket() -> None:
    assert percentile({0.1: 50, 0.5: 40, 1.0: 10}, 0.95) == pytest.approx(0.75)
    assert percentile({1.0: 0, 2.0: 0}, 0.95) == 0.0
    assert percentile({1.0: 1, INFINITE: 99}, 0.95) == 1.0


@example({1.1: 0, 45.903222929137634: 23}, 1.0)
@given(st.dictionaries(st.floats(0.01, 100), st.integers(0, 50), min_size=1), st.floats(0, 1))
def test_a_percentile_is_never_beyond_the_bounds(buckets: dict[float, int], part: float) -> None:
    assert 0.0 <= percentile(buckets, part) <= max(buckets)


def buckets(fast: int, slow: int) -> tuple[tuple[float, int], ...]:
    return ((0.5, fast), (4.0, fast + slow), (INFINITE, fast + slow))


def test_only_what_came_since_the_first_look_counts() -> None:
    seen = FirstTokens()
    seen.note({"a": buckets(0, 1000)}, 0)
    assert seen.p95_seconds() is None
    seen.note({"a": buckets(LEAST_TOKENS, 1000)}, 1000)
    assert seen.p95_seconds() == pytest.approx(0.475)
    seen.note({"a": buckets(LEAST_TOKENS, 1000 + LEAST_TOKENS)}, 2000)
    assert 3.0 < (seen.p95_seconds() or 0.0) <= 4.0


def test_a_few_slow_requests_say_nothing_and_old_ones_are_forgotten() -> None:
    seen = FirstTokens()
    seen.note({"a": buckets(0, 0), "b": buckets(0, 0)}, 0)
    seen.note({"a": buckets(0, LEAST_TOKENS // 2 - 1), "b": buckets(0, LEAST_TOKENS // 2)}, 1000)
    assert seen.p95_seconds() is None
    seen.note({"a": buckets(0, LEAST_TOKENS), "b": buckets(0, LEAST_TOKENS)}, 2000)
    assert seen.p95_seconds() is not None
    seen.note({"a": buckets(0, LEAST_TOKENS), "b": buckets(0, LEAST_TOKENS)}, 2001 + WINDOW_MS)
    assert seen.p95_seconds() is None
