"""What has come and has not ended: how much it is, and what it is like."""

import math
import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.mode.traffic import STALE_SECONDS, ServedRequest, TrafficLog

EACH_SECONDS = 5.0


def told(requests: list[ServedRequest], now: float, **settings: int) -> TrafficLog:
    """What is known by then: those that have ended, and how many were on their way every five seconds."""
    log = TrafficLog(**settings)
    for one in sorted(requests, key=lambda one: one.ended_seconds):
        if one.ended_seconds <= now:
            log.add(one)
    for number in range(1, int(now / EACH_SECONDS) + 1):
        at = number * EACH_SECONDS
        log.on_their_way(at, sum(one.started_seconds <= at < one.ended_seconds for one in requests))
    return log


def overloaded(seconds: float, rate: float = 20.0) -> list[ServedRequest]:
    """Each answer takes as long as it has tokens, and the longer the more are on their way."""
    draw = random.Random(1)
    found = []
    for number in range(int(rate * seconds)):
        at, output = number / rate, min(1000, 1 + int(draw.expovariate(1 / 200)))
        found.append(ServedRequest(at, at + output * 0.05 * (1 + at / 30), 1000, output))
    return found


@given(
    st.lists(st.tuples(st.floats(0.1, 60.0), st.floats(0.0, 90.0)), min_size=1, max_size=80),
    st.sampled_from([20.0, 40.0, 60.0]),
)
def test_as_many_are_known_of_as_have_come_however_long_each_takes(
    drawn: list[tuple[float, float]], now: float
) -> None:
    requests = [ServedRequest(at, at + lasts, 100, 10) for at, lasts in drawn]
    found = told(requests, now).recent(now)
    ended = [one for one in requests if one.ended_seconds <= now]
    first = min((one.started_seconds for one in ended), default=math.inf)
    come = sum(one.started_seconds <= now for one in requests)
    if first <= EACH_SECONDS:
        assert len(found) == come
    edges = [EACH_SECONDS * number for number in range(int(now / EACH_SECONDS) + 1)]
    for start, end in pairwise(edges):
        if start > first:
            assert sum(start < one.started_seconds <= end for one in found) == sum(
                start < one.started_seconds <= end for one in requests
            )
    starts = [one.started_seconds for one in found]
    assert starts == sorted(starts)
    assert all(one.ended_seconds >= min(now, one.started_seconds) for one in found)


def test_of_a_load_that_is_too_much_the_long_answers_are_not_missing() -> None:
    """Of what has ended alone answers are too short by a third."""
    now = 40.0
    requests = overloaded(now)
    true = statistics.mean(one.output_tokens for one in requests)
    with_them = told(requests, now).profile(now)
    without = TrafficLog()
    for one in requests:
        if one.ended_seconds <= now:
            without.add(one)
    alone = without.profile(now)
    assert with_them is not None
    assert alone is not None
    assert with_them.requests_per_second == pytest.approx(20.0, rel=0.05)
    assert with_them.output_tokens == pytest.approx(true, rel=0.15)
    assert alone.requests_per_second < 19.0
    assert alone.output_tokens < 0.7 * true


def test_a_shift_is_seen_before_its_answers_have_ended() -> None:
    short = [ServedRequest(at / 10, at / 10 + 1, 3000, 20) for at in range(600)]
    long = [ServedRequest(60 + at / 5, 60 + at / 5 + 15 + at % 10, 500, 300) for at in range(200)]
    now = 80.0
    log = told([*short, *long], now)
    lately = [one for one in log.recent(now) if one.started_seconds > 60.0]
    assert len(lately) == 100
    assert sum(one.output_tokens == 300 for one in lately) >= 90


def test_of_a_light_load_nothing_is_made_up() -> None:
    requests = [ServedRequest(float(at), at + 0.5, 100, 10) for at in range(1000)]
    found = told(requests, 1000.0).recent(1000.0)
    assert found == [one for one in requests if one.started_seconds > 400.0]


def test_where_it_is_not_told_or_was_long_ago_what_began_lately_is_left_out() -> None:
    requests = [ServedRequest(float(at), at + 10.0, 100, 10) for at in range(60)]
    late = 60.0 + STALE_SECONDS + 0.1
    assert len(told(requests, 60.0).recent(60.0)) == 60
    silent = told(requests, 60.0)
    assert max(one.ended_seconds for one in silent.recent(late)) <= 60.0
    assert TrafficLog().recent(1.0) == []


@pytest.mark.parametrize(("at", "count"), [(math.nan, 3), (math.inf, 3), (1.0, -1)])
def test_what_makes_no_sense_is_not_taken(at: float, count: int) -> None:
    log = TrafficLog()
    log.add(ServedRequest(0.0, 0.5, 100, 10))
    log.on_their_way(at, count)
    assert len(log.recent(1.0)) == 1


def test_a_clock_that_goes_back_tells_anew() -> None:
    log = TrafficLog()
    log.add(ServedRequest(0.0, 0.5, 100, 10))
    log.on_their_way(1000.0, 50)
    log.on_their_way(2.0, 3)
    log.on_their_way(2.0, 9)
    assert len(log.recent(2.0)) == 4


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.integers(1, 50))
def test_whatever_engines_tell_no_more_is_made_up_than_is_bounded(counts: list[int], most: int) -> None:
    log = TrafficLog(most=most)
    for at in range(60):
        log.add(ServedRequest(float(at), at + 1.0, 100, 10))
    for number, count in enumerate(counts, 1):
        log.on_their_way(60.0 + number * 0.5, count)
    assert len(log.recent(60.0 + len(counts) * 0.5)) <= 3 * most
