"""A bucket lets through what its limit says, in every span of time, whatever is given back."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.rates import MINUTE_NS, Bucket, Share, go_duration

SECOND_NS = 1_000_000_000
LIMITS = st.sampled_from([1, 2, 3, 7, 60, 61, 997, 100_000, 999_999_937])
STEPS = st.lists(
    st.tuples(
        st.one_of(st.just(0), st.integers(0, 90 * SECOND_NS)),  # time that passes
        st.integers(1, 1000),  # asked for, in thousandths of the limit
        st.integers(0, 1000),  # used of it, in thousandths
        st.integers(0, 5),  # so many steps later it has ended
    ),
    max_size=40,
)


@dataclass
class Run:
    """A bucket, and what was let through: when, and what was used of it in the end."""

    bucket: Bucket
    now_ns: int = 5 * SECOND_NS
    through: list[tuple[int, int]] = field(default_factory=list)
    ends: list[tuple[int, Share, int]] = field(default_factory=list)

    def step(self, number: int, asked: int, used: int, later: int) -> None:
        for end in [end for end in self.ends if end[0] <= number]:
            self.bucket.settle(end[1], end[2], self.now_ns)
            self.ends.remove(end)
        if self.bucket.wait_ns(asked, self.now_ns) == 0:
            share = self.bucket.take(asked, self.now_ns)
            self.through.append((self.now_ns, used))
            self.ends.append((number + later, share, used))

    def check(self) -> None:
        """In no span of time was more used than the limit and its burst allow."""
        per_minute = self.bucket.per_minute
        for first in range(len(self.through)):
            began, total = self.through[first][0], 0
            for moment, used in self.through[first:]:
                total += used
                assert total * MINUTE_NS <= per_minute * (MINUTE_NS + moment - began)


@given(LIMITS, STEPS)
def test_in_no_span_more_is_used_than_the_limit_allows(
    per_minute: int, steps: list[tuple[int, int, int, int]]
) -> None:
    run = Run(Bucket(per_minute))
    for number, (passed, asked, used, later) in enumerate(steps):
        run.now_ns += passed
        amount = max(1, per_minute * asked // 1000)
        run.step(number, amount, amount * used // 1000, later)
    run.check()


@given(LIMITS, STEPS)
def test_who_waits_as_long_as_told_is_let_through_and_no_earlier(
    per_minute: int, steps: list[tuple[int, int, int, int]]
) -> None:
    bucket, now_ns = Bucket(per_minute), 0
    for passed, asked, _, _ in steps:
        now_ns += passed
        amount = max(1, per_minute * asked // 1000)
        wait_ns = bucket.wait_ns(amount, now_ns)
        if wait_ns:
            assert bucket.wait_ns(amount, now_ns + wait_ns - 1) == 1
        assert bucket.wait_ns(amount, now_ns + wait_ns) == 0
        assert (bucket.left(now_ns) >= amount) == (wait_ns == 0)
        now_ns += wait_ns
        bucket.take(amount, now_ns)
        assert bucket.left(now_ns + bucket.reset_ns(now_ns)) == per_minute


@given(LIMITS, st.integers(0, 10**16))
def test_a_minutes_worth_is_there_at_once_and_then_comes_evenly_for_ever(
    per_minute: int, now_ns: int
) -> None:
    bucket = Bucket(per_minute)
    assert bucket.left(now_ns) == per_minute
    bucket.take(per_minute, now_ns)
    assert bucket.left(now_ns) == 0
    for number in range(1, 200):
        due_ns = now_ns + -(-number * MINUTE_NS // per_minute)
        assert bucket.wait_ns(1, due_ns) == 0, "no error adds up"
        assert due_ns == now_ns or bucket.wait_ns(1, due_ns - 1) == 1
        bucket.take(1, due_ns)


@given(LIMITS, st.integers(0, 1000), st.integers(0, 1000))
def test_what_was_set_aside_and_not_used_is_there_again_at_once(
    per_minute: int, asked: int, used: int
) -> None:
    bucket = Bucket(per_minute)
    asked, used = per_minute * asked // 1000, per_minute * min(asked, used) // 1000
    share = bucket.take(asked, 7)
    bucket.settle(share, min(asked, used), 7)
    assert bucket.left(7) == per_minute - min(asked, used)


def test_what_time_gave_back_is_not_given_back_again() -> None:
    bucket = Bucket(60)
    share = bucket.take(10, 0)
    bucket.take(5, 20 * SECOND_NS)
    bucket.settle(share, 1, 20 * SECOND_NS)
    assert bucket.left(20 * SECOND_NS) == 55


def test_more_than_was_set_aside_has_the_next_wait_but_never_for_longer_than_a_day() -> None:
    bucket = Bucket(60)
    bucket.settle(bucket.take(10, 0), 180, 0)
    assert (bucket.left(0), bucket.reset_ns(0)) == (0, 180 * SECOND_NS)
    assert bucket.wait_ns(1, 0) == 121 * SECOND_NS
    bucket.settle(bucket.take(1, 0), 10**12, 0)
    assert bucket.reset_ns(0) == 24 * 3600 * SECOND_NS


@given(LIMITS, LIMITS, st.integers(0, 1000))
def test_another_limit_keeps_what_is_used_in_proportion(before: int, after: int, used: int) -> None:
    bucket = Bucket(before)
    share = bucket.take(before * used // 1000, 0)
    reset_ns = bucket.reset_ns(0)
    bucket.adjust(after, 0)
    assert abs(bucket.reset_ns(0) - reset_ns) <= 1
    bucket.adjust(before, 0)
    left = bucket.left(0)
    bucket.settle(share, 0, 0)
    if before != after:
        assert bucket.left(0) == left, "what was under way gives nothing back"


@pytest.mark.parametrize(
    ("span_ns", "told"),
    [
        (0, "0s"),
        (1, "1ms"),
        (120_000_000, "120ms"),
        (SECOND_NS, "1s"),
        (1_500_000_000, "1.5s"),
        (6 * MINUTE_NS, "6m0s"),
        (61_020_000_000, "1m1.02s"),
        (3600 * SECOND_NS, "1h0m0s"),
    ],
)
def test_times_are_told_as_openai_tells_them(span_ns: int, told: str) -> None:
    assert go_duration(span_ns) == told
