"""What may not run for now ends with its grace, at no cost, and waits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.lifecycle.lifecycle import (
    BACKING_OFF,
    HOLDING,
    PLACED,
    Phase,
    Rank,
    Restarts,
    Seen,
    State,
    Successor,
    advance,
)

T0 = 1_000_000
POLICIES = tuple(Restarts(policy, 1, 1.0, 60.0, 6) for policy in ("Always", "OnFailure", "Never"))
RUNS = Rank(0, "main", "a", "Running", T0)
BARRED = Seen((RUNS,), alive=True, barred="the budget cap is spent", grace_seconds=10.0)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("phase", sorted(PLACED))
def test_a_gang_is_told_to_end_and_has_its_grace(policy: Restarts, phase: Phase) -> None:
    state = State(phase, attempt=2, restarts=1, crashes=1)
    step = advance(policy, False, state, BARRED, T0)
    expected = replace(state, phase="Preempting", leaves_by_ms=T0 + 10_000, message=BARRED.barred)
    assert (step.state, step.drop) == (expected, True)
    assert step.notes[0].message == "the budget cap is spent; it has 10 s to end"
    ended = Seen((replace(RUNS, state="Exited", exit_code=143),), barred=BARRED.barred, told=True)
    waits = advance(policy, False, step.state, ended, T0 + 3000)
    assert (waits.state.phase, waits.release) == ("Pending", True)
    assert (waits.state.restarts, waits.state.crashes) == (1, 1)
    assert advance(policy, False, waits.state, ended, T0 + 4000).state == waits.state


@pytest.mark.parametrize("phase", ["Resizing", "Migrating"])
def test_one_that_leaves_for_another_place_does_not_start_there(phase: Phase) -> None:
    seen = Seen(barred="spent", successor=Successor(2, (), beside=False))
    step = advance(POLICIES[1], False, State(phase, attempt=1), seen, T0)
    assert (step.state.phase, step.succeed, step.drop) == ("Pending", False, True)


def test_one_that_ended_well_before_it_was_told_has_succeeded() -> None:
    seen = Seen((replace(RUNS, state="Exited", exit_code=0),), barred="spent", grace_seconds=10.0)
    leaving = advance(POLICIES[1], False, State("Running", attempt=1), seen, T0).state
    assert advance(POLICIES[1], False, leaving, seen, T0).state.phase == "Succeeded"


@pytest.mark.parametrize("phase", sorted(BACKING_OFF))
def test_one_that_waits_out_its_back_off_starts_no_more(phase: Phase) -> None:
    state = State(phase, attempt=3, restarts=2, crashes=2, next_start_ms=T0 + 500)
    step = advance(POLICIES[1], False, state, Seen(barred="spent"), T0 + 1000)
    assert (step.state.phase, step.state.restarts, step.release) == ("Pending", 2, True)


def test_to_be_suspended_comes_first() -> None:
    assert advance(POLICIES[1], True, State("Running", attempt=1), BARRED, T0).state.phase == "Stopping"


@given(st.sampled_from(sorted(HOLDING)), st.lists(st.booleans(), min_size=1, max_size=8))
def test_however_it_began_nothing_starts_while_it_is_barred(phase: Phase, alive: list[bool]) -> None:
    state = State(phase, attempt=1, next_start_ms=T0)
    for number, lives in enumerate(alive):
        seen = replace(BARRED, alive=lives, successor=Successor(2, (RUNS,), beside=number % 2 == 0))
        state = advance(POLICIES[1], False, state, seen, T0 + 60_000 * number).state
        assert state.attempt == 1
        assert state.phase not in PLACED
