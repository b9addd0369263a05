"""What ends again and again is called so, says why, and has an end."""

from dataclasses import replace

import pytest

from common.resources.workload import LastFailure, RestartPolicy
from scheduler.core.lifecycle.lifecycle import Rank, Restarts, Seen, State, Step, advance
from scheduler.translate.log_lines import telling_line
from scheduler.translate.views import restarts_view

DEFAULT = restarts_view(RestartPolicy())


def crash(state: State, now_ms: int, run_ms: int = 3000, answered: bool = False) -> Step:
    """The gang ran for so long, and ends with exit code 2."""
    phase = "Ready" if answered else "Starting"
    rank = Rank(0, "engine", "n", "Exited", now_ms - run_ms, 2, 600.0)
    return advance(DEFAULT, False, replace(state, phase=phase), Seen(ranks=(rank,)), now_ms)  # type: ignore[arg-type]


def test_the_second_failure_in_a_row_is_a_loop_and_the_seventh_ends_it() -> None:
    state, phases, now_ms = State(attempt=1), [], 10_000_000
    for _ in range(7):
        step = crash(state, now_ms)
        state = step.state
        phases.append(state.phase)
        assert step.notes[-1].reason == state.phase
        now_ms += 100_000
    assert phases == ["Restarting", *["CrashLoopBackOff"] * 5, "Failed"]
    assert "ended with exit code 2, after 6 restarts in a row (restart.maxCrashes)" in state.message


def test_the_next_start_is_made_when_it_is_due() -> None:
    state = crash(crash(State(attempt=1), 10_000_000).state, 10_100_000).state
    due_ms = state.next_start_ms or 0
    assert advance(DEFAULT, False, state, Seen(), due_ms - 1).state == state
    started = advance(DEFAULT, False, state, Seen(), due_ms).state
    assert (started.phase, started.attempt, started.crashes) == ("Starting", 2, 2)


def test_what_answered_each_time_has_more_tries_before_it_is_called_a_loop() -> None:
    state, phases = State(attempt=1), []
    for number in range(5):
        state = crash(state, 10_000_000 * (number + 1), answered=True).state
        phases.append(state.phase)
    assert phases == [*["Restarting"] * 4, "CrashLoopBackOff"]


@pytest.mark.parametrize(("answered", "crashes"), [(True, 1), (False, 4)])
def test_ten_minutes_of_answering_are_a_proof_and_of_starting_are_none(answered: bool, crashes: int) -> None:
    state = State(attempt=4, crashes=3, backoff_step=3)
    assert crash(state, 10_000_000, run_ms=700_000, answered=answered).state.crashes == crashes


def test_without_a_limit_it_goes_on() -> None:
    endless: Restarts = restarts_view(RestartPolicy(max_crashes=0))
    rank = Rank(0, "engine", "n", "Exited", 9_999_000, 1)
    state = State(phase="Running", attempt=90, crashes=80)
    assert advance(endless, False, state, Seen(ranks=(rank,)), 10_000_000).state.phase == "CrashLoopBackOff"


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        ("", ""),
        (
            "usage: x\napi_server.py: error: unrecognized arguments: --no-such-flag\n",
            "api_server.py: error: unrecognized arguments: --no-such-flag",
        ),
        ("OSError: does/not-exist is not a folder\nINFO bye\n", "OSError: does/not-exist is not a folder"),
        (
            "ValueError: no memory\nTraceback\nRuntimeError: Engine failed. See root cause above.\n",
            "ValueError: no memory",
        ),
        ("\x1b[31mboom\x1b[0m\n\n", "boom"),
        ("a\x00b", "a\N{REPLACEMENT CHARACTER}b"),
        ("x" * 9000, "x" * 299 + "…"),
    ],
)
def test_the_line_that_says_why(printed: str, line: str) -> None:
    assert telling_line(printed) == line


def test_a_failure_that_is_kept_is_bounded() -> None:
    failure = LastFailure(attempt=1, rank=0, exit_code=137, line=telling_line("error " * 10_000))
    assert len(failure.line) <= 300
