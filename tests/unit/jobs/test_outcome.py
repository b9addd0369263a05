"""From what a job's workload does to what becomes of the job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.outcome import Asked, RankEnd, Seen, exit_code_of, first_failure, judge

PHASES = (
    *("Pending", "Starting", "Running", "Ready", "Restarting", "Preempting", "Resizing", "Migrating"),
    *("Stopping", "Suspended", "Succeeded", "Failed"),
)
KILLED = (RankEnd(0, 143, 9), RankEnd(1, 3, 5), RankEnd(2, 143, 8))
CODES = st.none() | st.integers(0, 255)
RANKS = st.lists(st.tuples(CODES, st.none() | st.integers(0, 9)), max_size=4).map(
    lambda ends: tuple(RankEnd(rank, code, at) for rank, (code, at) in enumerate(ends))
)
SEEN = st.none() | st.builds(
    Seen,
    st.sampled_from(PHASES),
    st.integers(0, 9),
    RANKS,
    st.none() | st.integers(0, 99),
    idle=st.booleans(),
)
ASKED = st.builds(
    Asked,
    st.booleans(),
    st.none() | st.integers(1, 9),
    st.none() | st.integers(0, 9_000),
    trouble=st.sampled_from(("", "it is full")),
)


@pytest.mark.parametrize(
    ("seen", "phase"),
    [
        (None, "Pending"),
        (Seen("Pending"), "Pending"),
        (Seen("Starting", 1), "Pending"),
        (Seen("Running", 1), "Running"),
        (Seen("Preempting", 1), "Running"),
        (Seen("Restarting", 1, (RankEnd(0, 1, 1),)), "Retrying"),
        (Seen("Pending", 2), "Retrying"),
    ],
)
def test_the_phase_says_what_the_workload_does(seen: Seen | None, phase: str) -> None:
    outcome = judge(Asked(), seen, 0)
    assert (outcome.phase, outcome.stop, outcome.final) == (phase, False, "")


def test_the_code_is_that_of_the_rank_that_failed_first() -> None:
    assert first_failure(KILLED) == KILLED[1]
    assert exit_code_of(KILLED) == 3
    assert exit_code_of((RankEnd(0, 0), RankEnd(1, None))) is None
    assert exit_code_of((RankEnd(0, 0), RankEnd(1, 0))) == 0


def test_a_job_whose_retries_are_used_up_has_failed() -> None:
    outcome = judge(Asked(), Seen("Failed", 7, KILLED), 0)
    assert outcome.final == "Failed"
    assert outcome.message == "exit code 3 of rank 1, after 7 attempts"


@pytest.mark.parametrize("code", [126, 127])
def test_a_command_that_is_none_is_not_tried_again(code: int) -> None:
    outcome = judge(Asked(), Seen("Restarting", 1, (RankEnd(0, code, 1),)), 0)
    assert (outcome.reason, outcome.stop) == ("CannotStart", True)


def test_the_deadline_counts_from_the_first_start() -> None:
    asked = Asked(deadline_seconds=10, started_ms=5_000)
    assert not judge(asked, Seen("Running", 3), 14_999).stop
    assert judge(asked, Seen("Running", 3), 15_000).reason == "DeadlineExceeded"


def test_what_succeeded_before_it_was_stopped_has_succeeded() -> None:
    asked = Asked(cancelled=True, ending="Cancelled")
    assert judge(asked, Seen("Succeeded", 1), 0).final == "Succeeded"


def test_a_job_that_has_ended_well_is_not_run_again_when_its_workload_is_gone() -> None:
    assert judge(Asked(ending="Completed"), None, 0).final == "Succeeded"


@given(ASKED, SEEN, st.integers(0, 99_000))
def test_an_end_is_an_end(asked: Asked, seen: Seen | None, now_ms: int) -> None:
    """What was decided once holds, whatever is seen later, but for a success; and nothing is stopped that has
    ended."""
    outcome = judge(asked, seen, now_ms)
    assert bool(outcome.final) == (outcome.phase == "Collecting")
    assert not (outcome.stop and outcome.final)
    if outcome.stop or outcome.final:
        after = Asked(ending=outcome.reason, ending_message=outcome.message)
        later = judge(after, Seen("Suspended", 1), now_ms + 1)
        assert later.final in (outcome.final or later.final, "Succeeded")
        assert later.final
        assert later.reason == outcome.reason


def test_a_session_without_input_is_cancelled_and_one_that_ended_by_itself_is_not() -> None:
    outcome = judge(Asked(), Seen("Running", 1, idle=True), 0)
    assert (outcome.phase, outcome.reason, outcome.stop) == ("Stopping", "Idle", True)
    over = judge(Asked(ending="Idle", ending_message=outcome.message), Seen("Suspended", 1, idle=True), 0)
    assert (over.phase, over.final) == ("Collecting", "Cancelled")
    assert judge(Asked(), Seen("Succeeded", 1, idle=True), 0).final == "Succeeded"
    assert judge(Asked(), Seen("Failed", 1, (RankEnd(0, 1, 1),), idle=True), 0).final == "Failed"
