"""What becomes of a gang."""

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.lifecycle.lifecycle import (
    LONG_RUN_MS,
    Phase,
    Rank,
    RankState,
    Restarts,
    Seen,
    State,
    Step,
    Successor,
    advance,
)

T0 = 1_000_000
ON_FAILURE = Restarts("OnFailure", None, 1.0, 60.0)
RUNNING = State("Running", attempt=1)


def rank(state: RankState, number: int = 0, *, code: int | None = None, timeout: float | None = None) -> Rank:
    return Rank(number, "main", f"node-{number}", state, T0, code, timeout)


def step(
    state: State, *ranks: Rank, policy: Restarts = ON_FAILURE, now: int = T0 + 1000, suspend: bool = False
) -> Step:
    alive = any(r.state != "Exited" for r in ranks)
    return advance(policy, suspend, state, Seen(tuple(ranks), alive=alive), now)


@pytest.mark.parametrize(
    ("ranks", "phase"),
    [
        ([rank("Assigned")], "Starting"),
        ([rank("Starting", timeout=9), rank("Running", 1)], "Starting"),
        ([rank("Running"), rank("Running", 1)], "Running"),
        ([rank("Ready", timeout=9), rank("Running", 1)], "Ready"),
        ([rank("Ready", timeout=9), rank("Running", 1, timeout=9)], "Running"),
        ([rank("Exited", code=0), rank("Running", 1)], "Running"),
        ([rank("Exited", code=0), rank("Exited", 1, code=0)], "Succeeded"),
        ([rank("Exited", code=1), rank("Running", 1)], "Restarting"),
        ([rank("Lost"), rank("Running", 1)], "Pending"),
    ],
)
def test_the_phase_follows_the_ranks(ranks: list[Rank], phase: str) -> None:
    assert step(State("Starting", attempt=1), *ranks).state.phase == phase


@pytest.mark.parametrize(
    ("policy", "code", "phase"),
    [
        ("Always", 0, "Restarting"),
        ("Always", 1, "Restarting"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 137, "Restarting"),
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
    ],
)
def test_the_restart_policy_decides_what_an_exit_means(policy: str, code: int, phase: str) -> None:
    rule = replace(ON_FAILURE, policy=policy)  # type: ignore[arg-type]
    assert step(RUNNING, rank("Exited", code=code), policy=rule).state.phase == phase


def test_back_off_doubles_to_its_maximum_and_starts_afresh_after_a_long_run() -> None:
    policy, state, delays = Restarts("OnFailure", None, 1.0, 5.0), RUNNING, []
    for _ in range(5):
        state = step(replace(state, phase="Running"), rank("Exited", code=1), policy=policy).state
        delays.append((state.next_start_ms or 0) - (T0 + 1000))
    assert delays == [1000, 2000, 4000, 5000, 5000]
    late = T0 + LONG_RUN_MS
    state = step(replace(state, phase="Running"), rank("Exited", code=1), policy=policy, now=late).state
    assert (state.next_start_ms or 0) - late == 1000
    assert state.restarts == 6


def test_a_restart_waits_for_its_time_and_for_the_old_processes() -> None:
    waiting = State("Restarting", attempt=1, next_start_ms=T0 + 5000)
    dead = Seen((rank("Exited", code=1),), alive=False)
    assert advance(ON_FAILURE, False, waiting, dead, T0 + 4999).state == waiting
    assert advance(ON_FAILURE, False, waiting, replace(dead, alive=True), T0 + 9000).state == waiting
    started = advance(ON_FAILURE, False, waiting, dead, T0 + 5000).state
    assert (started.phase, started.attempt, started.next_start_ms) == ("Starting", 2, None)


def test_a_restart_whose_place_is_gone_waits_for_a_new_one() -> None:
    waiting = State("Restarting", attempt=1, next_start_ms=T0)
    answer = advance(ON_FAILURE, False, waiting, Seen(places_usable=False), T0)
    assert (answer.state.phase, answer.release) == ("Pending", True)


def test_max_restarts_ends_it() -> None:
    policy = replace(ON_FAILURE, max_restarts=2)
    tried = replace(RUNNING, restarts=2)
    failed = step(tried, rank("Exited", code=7), policy=policy)
    assert failed.state.phase == "Failed"
    assert "exit code 7, after 2 restarts" in failed.state.message
    assert step(failed.state, rank("Exited", code=7), policy=policy).state == failed.state


def test_a_lost_node_means_a_new_place_and_costs_no_restart() -> None:
    policy = replace(ON_FAILURE, max_restarts=0)
    answer = step(RUNNING, rank("Running"), rank("Lost", 1), policy=policy)
    assert (answer.state.phase, answer.state.restarts, answer.release) == ("Pending", 0, True)
    assert (answer.state.next_start_ms or 0) > T0
    assert [note.reason for note in answer.notes] == ["NodeLost"]


def test_a_lost_node_fails_what_must_never_restart() -> None:
    answer = step(RUNNING, rank("Lost"), policy=replace(ON_FAILURE, policy="Never"))
    assert answer.state.phase == "Failed"


def test_not_ready_in_time_is_a_failure() -> None:
    slow = rank("Starting", timeout=30)
    starting = State("Starting", attempt=1)
    assert step(starting, slow, now=T0 + 30_000).state.phase == "Starting"
    late = step(starting, slow, now=T0 + 30_001).state
    assert late.phase == "Restarting"
    assert "not ready after 30 s" in late.message


def test_suspend_stops_first_and_resume_asks_for_a_place() -> None:
    stopping = step(RUNNING, rank("Running"), suspend=True)
    assert (stopping.state.phase, stopping.release) == ("Stopping", True)
    suspended = step(stopping.state, rank("Exited", code=143), suspend=True)
    assert suspended.state.phase == "Suspended"
    assert step(suspended.state, suspend=True).notes == ()
    assert step(suspended.state).state.phase == "Pending"


def test_changed_roles_are_placed_anew() -> None:
    answer = advance(ON_FAILURE, False, RUNNING, Seen((rank("Running"),), alive=True, spec_changed=True), T0)
    assert (answer.state.phase, answer.release) == ("Pending", True)


@pytest.mark.parametrize("state", ["Running", "Ready", "Exited", "Lost", "Starting"])
def test_a_step_repeated_is_silent(state: RankState) -> None:
    seen = Seen((rank(state, code=0 if state == "Exited" else None, timeout=60),), alive=True)
    once = advance(ON_FAILURE, False, RUNNING, seen, T0)
    twice = advance(ON_FAILURE, False, once.state, seen, T0)
    assert (twice.state, twice.notes) == (once.state, ())


LEAVING = State("Preempting", attempt=1, leaves_by_ms=T0 + 10_000)


def leave(state: State, *ranks: Rank, policy: Restarts = ON_FAILURE, **seen: Any) -> Step:
    alive = any(r.state != "Exited" for r in ranks)
    return advance(policy, False, state, Seen(tuple(ranks), **{"alive": alive, "told": True, **seen}), T0)


def next_gang(*ranks: Rank, beside: bool = True, usable: bool = True) -> Successor:
    return Successor(2, ranks, beside, usable)


@pytest.mark.parametrize("phase", ["Preempting", "Resizing", "Migrating"])
def test_who_leaves_keeps_its_places_until_it_has_ended(phase: Phase) -> None:
    state = replace(LEAVING, phase=phase)
    assert leave(state, rank("Running")) == Step(state)
    ended = leave(state, rank("Exited", code=143))
    assert (ended.state.phase, ended.release, ended.state.leaves_by_ms) == ("Pending", True, None)
    assert (ended.state.restarts, ended.state.backoff_step, ended.state.next_start_ms) == (0, 0, None)


@pytest.mark.parametrize(
    ("policy", "told", "code", "phase"),
    [
        ("OnFailure", False, 0, "Succeeded"),
        ("OnFailure", True, 0, "Pending"),
        ("OnFailure", False, 1, "Pending"),
        ("Always", False, 0, "Pending"),
    ],
)
def test_only_who_was_done_before_it_was_told_is_done(policy: Any, told: bool, code: int, phase: str) -> None:
    rule = replace(ON_FAILURE, policy=policy)
    assert leave(LEAVING, rank("Exited", code=code), policy=rule, told=told).state.phase == phase


def test_a_successor_starts_when_the_gang_has_ended_if_its_place_is_good() -> None:
    state, ended = replace(LEAVING, phase="Resizing"), rank("Exited", code=143)
    good = leave(state, ended, successor=next_gang(rank("Assigned"), beside=False))
    assert (good.state.phase, good.state.attempt, good.succeed) == ("Starting", 2, True)
    bad = leave(state, ended, successor=next_gang(rank("Assigned"), beside=False, usable=False))
    assert (bad.state.phase, bad.state.attempt, bad.release, bad.drop) == ("Pending", 1, True, True)


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        (rank("Ready", timeout=9), rank("Starting", timeout=9), ("Ready", 1, False, False)),
        (rank("Ready", timeout=9), rank("Ready", timeout=9), ("Ready", 2, True, False)),
        (rank("Ready", timeout=9), rank("Running"), ("Ready", 2, True, False)),
        (rank("Exited", code=1), rank("Starting", timeout=9), ("Starting", 2, True, False)),
        (rank("Lost"), rank("Starting", timeout=9), ("Starting", 2, True, False)),
        (rank("Ready", timeout=9), rank("Exited", code=1), ("Ready", 1, False, True)),
        (rank("Ready", timeout=9), rank("Lost"), ("Ready", 1, False, True)),
    ],
)
def test_the_gang_beside_takes_over_when_it_is_ready_or_has_to(
    old: Rank, new: Rank, outcome: tuple[str, int, bool, bool]
) -> None:
    running = State("Ready", attempt=1)
    answer = leave(running, old, told=False, spec_changed=True, successor=next_gang(new))
    assert (answer.state.phase, answer.state.attempt, answer.succeed, answer.drop) == outcome


@pytest.mark.parametrize(("old", "new"), [("Ready", "Ready"), ("Lost", "Starting")])
def test_who_takes_over_does_not_pay_for_the_failures_of_the_one_before(
    old: RankState, new: RankState
) -> None:
    failing = State("Running", attempt=1, backoff_step=4, next_start_ms=T0 - 1, message="the new gang failed")
    answer = leave(failing, rank(old, timeout=9), told=False, successor=next_gang(rank(new, timeout=9)))
    assert answer.state == State("Ready" if new == "Ready" else "Starting", attempt=2)


def test_a_successor_that_is_out_of_date_is_dropped_and_another_one_waits_a_moment() -> None:
    running, old = State("Ready", attempt=1), rank("Ready", timeout=9)
    answer = leave(running, old, successor=next_gang(rank("Starting", timeout=9), usable=False))
    assert (answer.drop, answer.state.next_start_ms) == (True, T0 + 1000)


def test_a_broken_place_is_left_with_grace_but_not_by_what_never_restarts() -> None:
    seen: dict[str, Any] = {"leave": "device 0 is broken", "grace_seconds": 2.5, "told": False}
    answer = leave(RUNNING, rank("Running"), **seen)
    assert (answer.state.phase, answer.state.leaves_by_ms) == ("Migrating", T0 + 2500)
    never = leave(RUNNING, rank("Running"), policy=replace(ON_FAILURE, policy="Never"), **seen)
    assert never.state.phase == "Running"


def test_changed_roles_wait_for_a_surge_where_that_is_wanted() -> None:
    surging = leave(RUNNING, rank("Running"), spec_changed=True, may_surge=True)
    assert surging.state.phase == "Running"
    assert leave(RUNNING, rank("Running"), spec_changed=True).state.phase == "Pending"


rank_states = st.sampled_from(["Assigned", "Starting", "Running", "Ready", "Exited", "Lost"])
ranks_seen = st.lists(
    st.builds(
        Rank,
        st.integers(0, 3),
        st.just("main"),
        st.just("n"),
        rank_states,
        st.none() | st.integers(T0 - 10**6, T0),
        st.integers(0, 2),
        st.none() | st.just(30.0),
    ),
    max_size=3,
).map(tuple)
PHASES = list(get_args(Phase))


def restarts(policy: Any) -> Restarts:
    return Restarts(policy, 2, 1.0, 9.0)


@given(
    state=st.builds(
        State,
        st.sampled_from(PHASES),
        st.integers(1, 3),
        st.integers(0, 2),
        st.integers(0, 3),
        st.none() | st.integers(T0 - 5000, T0 + 5000),
    ),
    seen=st.builds(
        Seen,
        ranks_seen,
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.sampled_from(["", "broken"]),
        st.just(1.0),
        st.none() | st.builds(Successor, st.integers(4, 5), ranks_seen, st.booleans(), st.booleans()),
        st.sampled_from(["", "spent"]),
    ),
    policy=st.sampled_from(["Always", "OnFailure", "Never"]).map(restarts),
    suspend=st.booleans(),
)
def test_whatever_is_seen_a_gang_never_starts_while_the_old_one_may_be_alive(
    state: State, seen: Seen, policy: Restarts, suspend: bool
) -> None:
    answer = advance(policy, suspend, state, seen, T0)
    assert answer.state.attempt >= state.attempt
    starts_anew = answer.state.attempt > state.attempt
    if starts_anew and not (seen.successor and seen.successor.beside and answer.succeed):
        assert not seen.alive
    if answer.succeed:
        assert seen.successor is not None
        assert answer.state.attempt == seen.successor.attempt
    if answer.release:
        assert answer.state.phase in ("Pending", "Suspended", "Stopping")
    if state.phase in ("Succeeded", "Failed"):
        assert answer.state == state
