"""How many engines are wanted: up at once, down late, to zero when nobody asks, and never to and fro."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.core.autoscaling.scaler import (
    GAP_SECONDS,
    STEP_UP,
    UP_REST_SECONDS,
    Decision,
    RoleScaler,
    Rule,
)
from inference.core.autoscaling.signals import RoleLoad, Targets

LOOK_SECONDS = 5.0
RULE = Rule(Targets(requests=10.0), least=1, most=8)
IDLE = RoleLoad(ready=1, telling=1)


def load(requests: int, engines: int = 1) -> RoleLoad:
    return RoleLoad(engines, engines, running=requests, is_active=requests > 0)


class Play:
    """A scaler whose engines are there as soon as they are wanted, looked at every five seconds."""

    def __init__(self, wanted: int = 1, rule: Rule = RULE) -> None:
        self.rule, self.now = rule, 0.0
        self.scaler = RoleScaler(wanted, 0.0)
        self.changes: list[tuple[float, int, int]] = []

    def look(self, seen: RoleLoad) -> Decision:
        before = self.scaler.wanted
        self.now += LOOK_SECONDS
        decision = self.scaler.look(seen, self.rule, self.now)
        if decision.wanted != before:
            self.changes.append((self.now, before, decision.wanted))
        return decision

    def go(self, seconds: float, requests: int) -> Decision:
        for _ in range(round(seconds / LOOK_SECONDS)):
            decision = self.look(load(requests, self.scaler.wanted))
        return decision


def test_more_load_is_answered_with_the_second_look_that_sees_it() -> None:
    play = Play()
    assert play.look(load(25)).wanted == 1
    decision = play.look(load(25))
    assert (decision.wanted, decision.reason) == (3, "Requests")
    assert decision.message == "25 requests for a target of 10 on each engine: 3 engines"


def test_one_look_that_sees_much_changes_nothing() -> None:
    play = Play()
    play.look(load(5))
    assert play.look(load(80)).wanted == 1
    assert play.look(load(5)).wanted == 1


def test_steps_up_are_bounded_and_follow_one_another() -> None:
    play = Play(rule=replace(RULE, most=100))
    play.go(10, 1000)
    assert play.scaler.wanted == STEP_UP
    play.go(5, 1000)
    assert play.scaler.wanted == STEP_UP
    play.go(UP_REST_SECONDS, 1000)
    assert play.scaler.wanted == 2 * STEP_UP


def test_a_tenth_above_the_target_is_no_reason_for_another_engine() -> None:
    play = Play(2)
    assert play.go(60, 22).wanted == 2
    assert play.go(10, 23).wanted == 3


def test_fewer_only_when_load_was_low_for_the_whole_window() -> None:
    play = Play(3)
    assert play.go(295, 5).wanted == 3
    decision = play.go(5, 5)
    assert (decision.wanted, decision.reason) == (2, "LessLoad")
    assert play.go(55, 5).wanted == 2
    assert play.go(5, 5).wanted == 1


def test_one_moment_of_load_keeps_engines_for_another_window() -> None:
    play = Play(3)
    play.go(200, 5)
    play.go(5, 30)
    assert play.go(295, 5).wanted == 3
    assert play.go(5, 5).wanted == 2


def test_half_of_them_go_at_once_at_most() -> None:
    play = Play(8)
    play.go(300, 1)
    assert play.scaler.wanted == 4


def test_what_does_not_tell_keeps_all_engines() -> None:
    play = Play(3, replace(RULE, least=0, zero_after_seconds=60))
    for _ in range(500):
        decision = play.look(RoleLoad(ready=3, telling=2))
    assert decision.wanted == 3
    assert play.go(300, 0).wanted == 0


def test_a_gap_without_looks_is_no_calm() -> None:
    play = Play(3, replace(RULE, least=0, zero_after_seconds=60))
    play.go(10, 1)
    play.now += GAP_SECONDS
    assert play.go(5, 0).wanted == 3
    play.now -= 10_000
    assert play.go(55, 0).wanted == 3


def test_engines_that_are_only_starting_are_kept_and_not_multiplied() -> None:
    play = Play(2)
    for _ in range(200):
        assert play.look(RoleLoad(held=10, is_active=True)).wanted == 2


def test_nobody_asks_so_none_runs_and_the_first_who_does_gets_one() -> None:
    play = Play(2, replace(RULE, least=0, zero_after_seconds=120))
    assert play.go(115, 0).wanted == 2
    decision = play.go(5, 0)
    assert (decision.wanted, decision.reason) == (0, "Idle")
    assert play.go(600, 0).wanted == 0
    decision = play.look(RoleLoad(held=1))
    assert (decision.wanted, decision.reason) == (1, "Woken")


def test_many_who_wait_get_several_engines_at_once() -> None:
    play = Play(0, replace(RULE, least=0))
    assert play.look(RoleLoad(held=33)).wanted == STEP_UP


def test_the_other_role_that_works_keeps_this_one_up() -> None:
    scaler, rule = RoleScaler(1, 0.0), replace(RULE, least=0, zero_after_seconds=30)
    for now in range(1, 61):
        assert scaler.look(IDLE, rule, float(now), may_sleep=False).wanted == 1
    for now in range(61, 90):
        assert scaler.look(IDLE, rule, float(now)).wanted == 1, "as long as the other one"
    assert scaler.look(IDLE, rule, 90.0).wanted == 0


def test_limits_are_in_force_at_once() -> None:
    play = Play(1)
    play.rule = replace(RULE, least=6, floor_reason="Schedule")
    assert (play.look(IDLE).wanted, play.look(IDLE).reason) == (6, "Steady")
    assert play.changes == [(5.0, 1, 6)]
    play.rule = replace(RULE, most=2)
    assert play.look(IDLE).wanted == 2


@pytest.mark.parametrize(
    ("seen", "reason", "text"),
    [
        (
            RoleLoad(2, 2, running=2, waiting=9),
            "Queue",
            "9 requests queued in 2 engines for a target of 1 each",
        ),
        (RoleLoad(2, 2, kv_caches_in_use=1.9), "KvCache", "KV caches 95% in use for a target of 80%"),
        (
            RoleLoad(2, 2, running=2, ttft_p95_ms=1500.0),
            "FirstToken",
            "first tokens take 1500 ms (95th percentile) for a target of 1000 ms",
        ),
    ],
)
def test_each_sign_asks_for_more_by_itself(seen: RoleLoad, reason: str, text: str) -> None:
    play = Play(2, replace(RULE, targets=Targets(ttft_ms=1000.0)))
    play.look(seen)
    decision = play.look(seen)
    assert (decision.wanted, decision.reason) == (4 if reason == "Queue" else 3, reason)
    assert decision.message.startswith(text)


def test_first_tokens_that_are_just_in_time_keep_engines() -> None:
    play = Play(2, replace(RULE, targets=Targets(ttft_ms=1000.0)))
    for _ in range(200):
        assert play.look(RoleLoad(2, 2, running=1, ttft_p95_ms=800.0)).wanted == 2
    for _ in range(60):
        decision = play.look(RoleLoad(2, 2, running=1, ttft_p95_ms=300.0))
    assert decision.wanted == 1


loads = st.builds(
    lambda ready, silent, running, waiting, use, ttft, held: RoleLoad(
        ready,
        max(0, ready - silent),
        running if ready > silent else 0,
        waiting if ready > silent else 0,
        use * max(0, ready - silent),
        ttft,
        held,
        is_active=bool(running or waiting),
    ),
    st.integers(0, 6),
    st.integers(0, 2),
    st.integers(0, 200),
    st.integers(0, 50),
    st.floats(0, 1),
    st.none() | st.floats(0, 10_000),
    st.sampled_from([0, 0, 0, 1, 40]),
)
rules = st.builds(
    lambda least, more, down, cool, zero: Rule(
        Targets(requests=10.0, ttft_ms=1000.0), least, max(1, least + more), down, cool, zero
    ),
    st.integers(0, 3),
    st.integers(0, 6),
    st.floats(0, 600),
    st.floats(0, 300),
    st.floats(60, 900),
)


@given(rules, st.integers(0, 12), st.lists(st.tuples(loads, st.floats(-100, 100)), max_size=60))
def test_limits_hold_whatever_is_seen_and_however_clocks_jump(
    rule: Rule, wanted: int, seen: list[tuple[RoleLoad, float]]
) -> None:
    scaler, now = RoleScaler(wanted, 0.0), 0.0
    for one, seconds in seen:
        now += seconds
        decision = scaler.look(one, rule, now)
        assert decision.wanted == scaler.wanted
        assert rule.least <= decision.wanted <= rule.most
        assert decision.message


@given(rules, st.lists(loads, min_size=30, max_size=200))
def test_it_does_not_go_to_and_fro(rule: Rule, seen: list[RoleLoad]) -> None:
    """After a step up none down within the window, after a step down none within the cool-down; idleness,
    which is no noise, apart."""
    play = Play(max(1, rule.least), rule)
    for one in seen:
        decision = play.look(one)
        if not play.changes or play.changes[-1][0] != play.now or decision.reason in ("Idle", "Woken"):
            continue
        before = play.changes[:-1]
        if before and decision.wanted < play.changes[-1][1]:
            at, old, new = before[-1]
            rest = rule.down_after_seconds if new > old else rule.cool_down_seconds
            assert play.now - at >= rest - LOOK_SECONDS


@given(rules, st.lists(loads, max_size=40), loads, st.integers(0, 60), st.integers(0, 30), st.integers(0, 9))
def test_more_load_never_gets_fewer_engines(
    rule: Rule, before: list[RoleLoad], last: RoleLoad, running: int, waiting: int, held: int
) -> None:
    more = replace(
        last,
        running=last.running + (running if last.telling else 0),
        waiting=last.waiting + (waiting if last.telling else 0),
        held=last.held + held,
        is_active=True,
    )
    if last.ttft_p95_ms is not None:
        more = replace(more, ttft_p95_ms=last.ttft_p95_ms * 1.5)
    wanted = []
    for final in (last, more):
        play = Play(max(1, rule.least), rule)
        for one in before:
            play.look(one)
        wanted.append((play.look(final).wanted, play.look(final).wanted))
    assert wanted[0][0] <= wanted[1][0]
    assert wanted[0][1] <= wanted[1][1]


@example(60, 0.1)
@given(st.integers(0, 79), st.floats(0, 0.3))
def test_steady_load_with_noise_comes_to_rest(requests: int, noise: float) -> None:
    play = Play(5, replace(RULE, most=20))
    for turn in range(600):
        play.look(load(round(requests * (1 + noise * (turn % 3 - 1))), play.scaler.wanted))
    settled = len(play.changes)
    for turn in range(600):
        play.look(load(round(requests * (1 + noise * (turn % 3 - 1))), play.scaler.wanted))
    assert len(play.changes) == settled
    needed = requests / RULE.targets.requests
    assert needed * (1 - noise) / 1.11 <= play.scaler.wanted <= max(2, 1.05 * needed * (1 + noise) + 1.5)
