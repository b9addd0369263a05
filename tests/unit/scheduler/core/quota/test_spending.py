"""Device time per calendar period."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.quota.fairness import HALF_LIFE_SECONDS
from scheduler.core.quota.spending import PERIODS, Period, Spent, renews_ms, spend

H100 = "nvidia/H100"


def ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("period", "now", "renews"),
    [
        ("day", ms(2026, 2, 28, 23, 59), ms(2026, 3, 1)),
        ("week", ms(2026, 11, 21), ms(2026, 11, 23)),
        ("week", ms(2026, 11, 23), ms(2026, 11, 30)),
        ("month", ms(2026, 12, 31, 12), ms(2027, 1, 1)),
        ("month", ms(2028, 2, 1), ms(2028, 3, 1)),
    ],
)
def test_periods_end_with_the_calendar(period: Period, now: int, renews: int) -> None:
    assert renews_ms(period, now) == renews


def test_only_the_part_that_lies_in_the_period_counts() -> None:
    spent = spend({}, {H100: 2.0}, ms(2026, 11, 22, 23), ms(2026, 11, 23, 1))
    assert (spent[H100].day, spent[H100].week, spent[H100].month) == (7200, 7200, 14400)


def test_a_new_period_forgets_the_old_one() -> None:
    old = {H100: Spent(day=5, week=5, month=5, decayed=5)}
    spent = spend(old, {}, ms(2026, 11, 30, 12), ms(2026, 12, 1, 12))
    assert (spent[H100].day, spent[H100].week, spent[H100].month) == (0, 5, 0)
    assert spend(old, {}, ms(2026, 1, 1), ms(2027, 1, 1)) == {}


def test_old_use_fades() -> None:
    spent = spend({H100: Spent(decayed=1000)}, {}, 0, HALF_LIFE_SECONDS * 1000)
    assert spent[H100].decayed == pytest.approx(500)


@given(
    cuts=st.lists(st.integers(0, 40 * 86_400_000), min_size=1, max_size=6),
    devices=st.floats(0.125, 64),
)
def test_how_often_it_is_counted_does_not_matter(cuts: list[int], devices: float) -> None:
    start = ms(2026, 11, 20, 13)
    moments = [start, *(start + cut for cut in sorted(cuts))]
    spent: dict[str, Spent] = {}
    for since, now in pairwise(moments):
        spent = spend(spent, {H100: devices}, since, now)
    whole = spend({}, {H100: devices}, moments[0], moments[-1])
    for period in PERIODS:
        found = spent.get(H100, Spent()).of(period)
        assert found == pytest.approx(whole.get(H100, Spent()).of(period), rel=1e-6, abs=1e-6)
