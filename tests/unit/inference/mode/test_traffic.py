"""What came lately, and its profile."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.mode.traffic import LONGEST_TOKENS, Profile, ServedRequest, TrafficLog


def request(
    at: float, seconds: float = 1.0, prompt: int = 1000, output: int = 100, cached: int = 0
) -> ServedRequest:
    return ServedRequest(at, at + seconds, prompt, output, cached)


def log(*requests: ServedRequest, **settings: int) -> TrafficLog:
    made = TrafficLog(**settings)
    for one in requests:
        made.add(one)
    return made


def test_nothing_has_no_profile() -> None:
    assert TrafficLog().profile(0.0) is None


def test_a_steady_stream_has_its_rate_and_lengths() -> None:
    steady = log(*(request(at / 4, cached=250) for at in range(1600)))
    profile = steady.profile(401.0)
    assert profile is not None
    assert profile.requests_per_second == pytest.approx(4.0, rel=0.02)
    assert (profile.prompt_tokens, profile.output_tokens, profile.cached_part) == (1000, 100, 0.25)
    assert (
        profile.words
        == "4 requests/s of 1,000 prompt tokens, 25 % of them cached and 100 output tokens".replace(
            "4 ", f"{profile.requests_per_second:.3g} ", 1
        )
    )


def test_what_came_lately_counts_more() -> None:
    shifted = log(
        *(request(at, prompt=1000) for at in range(300)),
        *(request(at, prompt=9000) for at in range(300, 420)),
    )
    profile = shifted.profile(421.0)
    assert profile is not None
    assert profile.prompt_tokens > (300 * 1000 + 120 * 9000) / 420


def test_what_is_older_than_the_window_is_forgotten_and_no_more_than_a_number_is_kept() -> None:
    assert log(request(0.0)).recent(700.0) == []
    assert len(log(*(request(at / 100) for at in range(500)), most=50).recent(10.0)) == 50


def test_what_began_within_the_usual_length_is_left_out() -> None:
    """Of those, only the short ones have ended."""
    long = [request(float(at), seconds=60.0) for at in range(40)]
    short = [request(99.0, seconds=0.5)]
    assert log(*long, *short).recent(100.0) == long


@pytest.mark.parametrize(
    "odd",
    [
        ServedRequest(math.nan, 1.0, 10, 10),
        ServedRequest(0.0, math.inf, 10, 10),
        ServedRequest(2.0, 1.0, 10, 10),
        ServedRequest(0.0, 1.0, 0, 10),
        ServedRequest(0.0, 1.0, 10, 0),
        ServedRequest(0.0, 1.0, 10, -5),
        ServedRequest(0.0, 1.0, LONGEST_TOKENS + 1, 10),
        ServedRequest(0.0, 1.0, 10, 10, 11),
        ServedRequest(0.0, 1.0, 10, 10, -1),
    ],
)
def test_what_makes_no_sense_is_not_taken(odd: ServedRequest) -> None:
    assert log(odd).recent(2.0) == []


times = st.floats(0, 1e6)


@given(
    st.lists(
        st.builds(request, times, st.floats(0, 1e5), st.integers(1, 10**9), st.integers(1, 10**9)), min_size=1
    ),
    times,
)
def test_any_requests_have_a_finite_profile_or_none(requests: list[ServedRequest], now: float) -> None:
    profile = log(*requests).profile(now)
    if profile is not None:
        assert math.isfinite(profile.requests_per_second)
        assert profile.requests_per_second > 0
        assert profile.prompt_tokens >= 1
        assert profile.output_tokens >= 1
        assert profile.moved_from(profile) == 1.0


def test_how_far_a_profile_has_moved_is_its_largest_factor() -> None:
    before = Profile(2.0, 1000, 100, 0.0, 50)
    assert before.moved_from(Profile(4.0, 1000, 300, 0.0, 50)) == 3.0
    assert before.moved_from(Profile(2.0, 1000, 100, 0.5, 50)) == 2.0


def test_what_is_older_than_the_window_is_forgotten() -> None:
    log = TrafficLog(window_seconds=60.0)
    for second in range(100):
        log.add(ServedRequest(float(second), second + 1.0, 100, 10))
    assert len(log.recent(100.0)) == 59
    assert len(log._kept) == 59
    assert log.recent(1000.0) == []
    assert not log._kept
    log.add(ServedRequest(1000.0, 1001.0, 100, 10))
    assert len(log.recent(1002.0)) == 1
