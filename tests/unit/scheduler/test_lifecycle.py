"""What becomes of a gang."""

from dataclasses import replace

import pytest

from scheduler.core.lifecycle import LONG_RUN_MS, Rank, RankState, Restarts, Seen, State, Step, advance

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
