"""When a key spends out of the ordinary."""

from hypothesis import given
from hypothesis import strategies as st

from billing.core.runaway import DAY_MS, HOUR_MS, Rule, usual

NOW = 100 * DAY_MS
RULE = Rule(factor=5, least=100)
OLD = NOW - 2 * DAY_MS


def test_it_is_more_than_so_many_times_the_most_of_any_hour() -> None:
    history = {OLD: 40, OLD + HOUR_MS: 100}
    assert not RULE.is_runaway(500, history, NOW)
    assert RULE.is_runaway(501, history, NOW)


def test_small_sums_and_those_without_a_history_are_left_alone() -> None:
    assert not RULE.is_runaway(99, {OLD: 1}, NOW)
    assert RULE.is_runaway(100, {OLD: 1}, NOW)
    assert not RULE.is_runaway(10**9, {}, NOW)
    assert not RULE.is_runaway(10**9, {NOW - DAY_MS + 1: 1}, NOW)


SUMS = st.integers(0, 10**12)


@given(st.dictionaries(st.integers(0, NOW), SUMS, max_size=30), SUMS, st.integers(3, 1000))
def test_who_spends_as_before_is_never_one_and_more_is_never_less_of_one(
    history: dict[int, int], spent: int, factor: int
) -> None:
    rule = Rule(factor, 1)
    assert not rule.is_runaway(min(spent, usual(history)), history, NOW)
    if rule.is_runaway(spent, history, NOW):
        assert rule.is_runaway(spent + 1, history, NOW)
        assert spent > factor * usual(history)
