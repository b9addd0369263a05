"""Whether a canary is worse: by figures that both sides make, and never the worse for doing better."""

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.core.canary.judge import (
    LAST_STEP,
    MAX_SLOTS,
    MAX_SOURCES,
    SLOT_SECONDS,
    WINDOW_SECONDS,
    Limits,
    Seen,
    Trial,
    judge,
    step_of,
)

LIMITS = Limits(max_error_percent=5, max_ttft_ratio=2, min_requests=20)


def seen(requests: int, failed: int = 0, *ttft_ms: float) -> Seen:
    return Seen(requests, failed, Counter(map(step_of, ttft_ms)))


@st.composite
def sides(draw: st.DrawFn) -> Seen:
    requests = draw(st.integers(0, 500))
    tokens = draw(st.dictionaries(st.integers(0, LAST_STEP), st.integers(0, 50), max_size=5))
    return Seen(requests, draw(st.integers(0, requests)), tokens)


limits = st.builds(
    Limits,
    max_error_percent=st.floats(0, 100),
    max_ttft_ratio=st.floats(1, 100),
    min_requests=st.integers(1, 300),
)


@pytest.mark.parametrize(
    ("canary", "stable", "reason"),
    [
        (seen(19, 19), seen(1000), "Collecting"),
        (seen(20, 2), seen(1000), "TooManyErrors"),
        (seen(20, 1), seen(1000), "Healthy"),
        (seen(100, 30), seen(100, 26), "Healthy"),
        (seen(100, 30), seen(2, 2), "TooManyErrors"),
        (seen(30, 0, *[250.0] * 30), seen(30, 0, *[100.0] * 30), "TooSlow"),
        (seen(30, 0, *[150.0] * 30), seen(30, 0, *[100.0] * 30), "Healthy"),
        (seen(30, 0, *[900.0] * 14, *[100.0] * 16), seen(30, 0, *[100.0] * 30), "Healthy"),
        (seen(30, 0, *[900.0] * 19), seen(30, 0, *[100.0] * 30), "Healthy"),
        (seen(30, 0, *[900.0] * 30), seen(30, 0, *[100.0] * 19), "Healthy"),
    ],
)
def test_by_its_figures(canary: Seen, stable: Seen, reason: str) -> None:
    verdict = judge(canary, stable, LIMITS)
    assert (verdict.reason, verdict.worse) == (reason, reason.startswith("Too"))


def test_what_is_said_has_the_figures() -> None:
    text = judge(seen(40, 10), seen(200, 2), LIMITS).message
    assert text == (
        "10 of 40 requests of the canary failed (25.0 %), and 2 of 200 of the stable side (1.0 %): "
        "over 5 % more"
    )


@given(sides(), sides(), limits, st.integers(0, 100))
def test_more_failures_never_make_a_canary_better(
    canary: Seen, stable: Seen, rule: Limits, more: int
) -> None:
    failed = min(canary.requests, canary.failed + more)
    worse = Seen(canary.requests, failed, canary.first_tokens)
    assert judge(worse, stable, rule).worse >= judge(canary, stable, rule).worse


@given(sides(), sides(), limits, st.integers(0, 20))
def test_a_slower_canary_is_never_better(canary: Seen, stable: Seen, rule: Limits, later: int) -> None:
    slower = Seen(
        canary.requests, canary.failed, {step + later: n for step, n in canary.first_tokens.items()}
    )
    assert judge(slower, stable, rule).worse >= judge(canary, stable, rule).worse


@given(sides(), sides(), limits)
def test_wider_limits_never_find_it_worse(canary: Seen, stable: Seen, rule: Limits) -> None:
    wide = Limits(rule.max_error_percent + 1, rule.max_ttft_ratio + 1, rule.min_requests)
    assert judge(canary, stable, wide).worse <= judge(canary, stable, rule).worse


@given(sides(), limits)
def test_one_that_does_as_the_stable_side_does_is_not_worse(side: Seen, rule: Limits) -> None:
    if side.requests >= rule.min_requests:
        assert not judge(side, side, rule).worse


@given(sides(), sides(), limits)
def test_nothing_is_concluded_from_too_few(canary: Seen, stable: Seen, rule: Limits) -> None:
    if canary.requests < rule.min_requests:
        assert not judge(canary, stable, rule).worse


@given(st.lists(st.floats(1, 3e6), min_size=1, max_size=60))
@example([1.0])
def test_the_median_is_told_to_a_step(times_ms: list[float]) -> None:
    middle = sorted(times_ms)[(len(times_ms) - 1) // 2]
    assert middle / 1.2 <= seen(0, 0, *times_ms).median_ms <= middle * 1.2


@pytest.mark.parametrize("odd", [float("nan"), -5.0, 0.0, 1e300])
def test_every_time_has_a_step(odd: float) -> None:
    assert 0 <= step_of(odd) <= LAST_STEP


reports = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 9), st.floats(0, 8)), max_size=60
)


@given(reports)
def test_what_many_gateways_tell_again_and_again_is_counted_once(
    told: list[tuple[str, int, int, float]],
) -> None:
    trial, now, counted = Trial(), 0.0, {name: [0, 0] for name in "abc"}
    for name, canary, stable, passed in told:
        now += passed
        counted[name][0] += canary
        counted[name][1] += stable
        trial.note(name, seen(counted[name][0]), seen(counted[name][1]), now)
    lately = trial.lately(Limits(0, 1, 10**9), now)
    assert [one.requests for one in lately] == [sum(row[side] for row in counted.values()) for side in (0, 1)]


def test_who_begins_to_listen_late_hears_all_and_a_gateway_that_begins_anew_counts_anew() -> None:
    trial = Trial()
    trial.note("a", seen(100, 7), seen(900), 50.0)
    trial.note("a", seen(3, 1), seen(5), 51.0)
    canary, stable = trial.lately(LIMITS, 51.0)
    assert (canary.requests, canary.failed, stable.requests) == (103, 8, 905)


def test_old_figures_count_only_while_the_new_ones_are_too_few() -> None:
    trial = Trial()
    trial.note("a", seen(1000), seen(1000), 0.0)
    later = WINDOW_SECONDS + 1
    trial.note("a", seen(1019, 19), seen(1100), later)
    assert trial.lately(LIMITS, later)[0].requests == 1019
    trial.note("a", seen(1020, 20), seen(1100), later + 1)
    assert trial.lately(LIMITS, later + 1)[0] == seen(20, 20)
    assert trial.verdict(LIMITS, later + 1).worse


def test_a_trial_takes_so_much_memory_at_most() -> None:
    trial = Trial()
    for number in range(3 * MAX_SOURCES):
        trial.note(f"gw-{number}", seen(1), seen(1), number * SLOT_SECONDS)
    assert len(trial._known) == MAX_SOURCES
    assert len(trial._slots) <= MAX_SLOTS
    assert trial.lately(Limits(0, 1, 10**9), 0.0)[0].requests == 3 * MAX_SOURCES


def test_a_canary_that_is_seldom_asked_is_judged_by_its_last_requests_however_long_it_did_well() -> None:
    trial, now, asked, failed, until = Trial(), 0.0, 0, 0, 0
    for minute in range(12 * 60):  # twelve hours of a request a minute; the gateway tells every ten seconds
        asked += 1
        for second in range(0, 60, 10):
            now = 60.0 * minute + second
            trial.note("a", seen(asked), seen(9 * asked), now)
        assert not trial.verdict(LIMITS, now).worse
        assert trial.lately(LIMITS, now)[0].requests <= LIMITS.min_requests + 2
    while not trial.verdict(LIMITS, now).worse:
        now, asked, failed, until = now + 60, asked + 1, failed + 1, until + 1
        trial.note("a", seen(asked, failed), seen(9 * asked), now)
    assert until <= 3
