"""How the recent past counts in fair shares."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.quota.fairness import HALF_LIFE_SECONDS, decayed_use, recent_share
from tests.unit.scheduler.quota_worlds import CAPACITY, CPU, H100, cohort, queue, tree

POOL_DEVICES = sum(millis for model, millis in CAPACITY.items() if model != CPU) / 1000


def test_use_counts_half_after_a_half_life() -> None:
    assert decayed_use(1000.0, 0.0, HALF_LIFE_SECONDS) == pytest.approx(500.0)
    assert decayed_use(1000.0, 60.0, 0.0) == 1060.0


@given(st.integers(1, 500), st.integers(1, 3600))
def test_who_always_holds_a_part_of_the_pool_has_that_part_as_its_recent_share(
    devices: int, interval_seconds: int
) -> None:
    steady = devices * HALF_LIFE_SECONDS / math.log(2)
    assert decayed_use(steady, devices * interval_seconds, interval_seconds) == pytest.approx(steady)
    assert recent_share(steady, 1000 * 1000) == pytest.approx(devices / 1000)


@given(st.floats(0, 1e9), st.floats(0, 1e7), st.integers(1, 10**6), st.integers(1, 10**6))
def test_decay_in_two_steps_is_decay_in_one(before: float, rate: float, first: int, second: int) -> None:
    once = decayed_use(before, rate * (first + second), first + second)
    twice = decayed_use(decayed_use(before, rate * first, first), rate * second, second)
    assert twice == pytest.approx(once)


def test_an_empty_pool_has_no_recent_share() -> None:
    assert recent_share(1e9, 0) == 0.0


def test_the_past_of_a_cohort_is_that_of_its_queues_and_weights_divide_it() -> None:
    """a has held half of the accelerators for ever."""
    use = POOL_DEVICES / 2 * HALF_LIFE_SECONDS / math.log(2)
    queues = tree(cohort("ai"), queue("a", "ai", weight=2, decayed_use=use), queue("b", "ai"))
    assert queues.share("a") == pytest.approx(0.25)
    assert queues.share("b") == 0.0
    assert queues.share("ai") == pytest.approx(0.5)
    queues.charge("b", H100, 16_000)
    assert queues.share("b") == pytest.approx(0.25)
    assert queues.share("ai") == pytest.approx(0.75)


def test_a_model_that_the_pool_has_not_got_does_not_count() -> None:
    queues = tree(queue("a"))
    queues.charge("a", ("amd", "MI300X"), 5000)
    assert queues.share("a") == 0.0
    assert queues.usage("a") == {("amd", "MI300X"): 5000}
