"""The states of a batch, the verdicts on answers, and whose line is next."""

import json
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core.answer import (
    LONGEST_PAUSE_SECONDS,
    Again,
    Answer,
    Final,
    judge,
    pause_seconds,
    result_line,
)
from batches.core.course import ENDED, NEXT, Ending, Seen, State, Step, next_step
from batches.core.slots import FairSlots
from common.resources.batches import BatchState

_seen = st.builds(
    Seen,
    state=st.sampled_from(get_args(State)),
    ending=st.sampled_from(get_args(Ending)),
    is_cancelled=st.booleans(),
    total=st.integers(0, 5),
    done=st.integers(0, 5),
    now_ms=st.integers(0, 5),
    expires_ms=st.integers(0, 5),
)


def test_the_states_are_those_of_the_resource() -> None:
    assert get_args(State) == get_args(BatchState)
    assert {state for state, after in NEXT.items() if not after} == ENDED


@given(_seen)
def test_a_batch_goes_only_where_it_may_and_what_has_ended_stays(seen: Seen) -> None:
    step = next_step(seen)
    assert step.state == seen.state or step.state in NEXT[seen.state]
    if seen.state in ENDED:
        assert step == Step(seen.state, seen.ending)
    assert (step.ending != "") >= (step.state in ("finalizing", "cancelling") and step.state != seen.state)


def _at(**more: object) -> Step:
    told: dict[str, object] = {
        "state": "in_progress",
        "ending": "",
        "is_cancelled": False,
        "total": 3,
        "done": 1,
        "now_ms": 1,
        "expires_ms": 9,
    }
    return next_step(Seen(**{**told, **more}))  # type: ignore[arg-type]


def test_what_ends_a_batch() -> None:
    assert _at() == Step("in_progress")
    assert _at(done=3) == Step("finalizing", "completed")
    assert _at(done=3, now_ms=9) == Step("finalizing", "completed")
    assert _at(now_ms=9) == Step("finalizing", "expired")
    assert _at(is_cancelled=True) == Step("cancelling", "cancelled")
    assert _at(is_cancelled=True, done=3) == Step("finalizing", "completed"), (
        "there is nothing left to cancel"
    )
    assert _at(state="validating", total=0, done=0) == Step("validating")
    assert _at(state="validating", is_cancelled=True) == Step("cancelling", "cancelled")


def _answer(status: int, content: object = None, **more: object) -> Answer:
    raw = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
    return Answer(status, raw, **{"is_told": True, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [408, 429, 503, 529])
def test_who_is_told_to_wait_waits_however_often(status: int) -> None:
    said = {"error": {"message": "busy"}}
    told = judge(_answer(status, said, retry_after_seconds=7), 999, 3)
    assert told == Again(7, False, "busy")


def test_what_is_too_large_to_be_kept_is_not_asked_for_again() -> None:
    told = judge(Answer(200, None, True, event="{}"), 1, 3)
    assert isinstance(told, Final)
    assert told.error is not None
    assert told.error["code"] == "answer_too_large"


def test_what_is_paused_waits_until_it_is_resumed() -> None:
    told = judge(_answer(403, {"error": {"code": "paused", "message": "key ada"}}), 999, 3)
    assert told == Again(LONGEST_PAUSE_SECONDS, False, "key ada")
    assert isinstance(judge(_answer(403, {"error": {"code": "forbidden"}}), 1, 3), Final)


def test_what_broke_is_tried_a_few_times() -> None:
    assert isinstance(judge(_answer(502), 2, 3), Again)
    end = judge(_answer(502, {"error": {}}, request_id="r"), 3, 3)
    assert end == Final(False, {"status_code": 502, "request_id": "r", "body": {"error": {}}}, None)
    assert isinstance(judge(_answer(200, b"<html>"), 1, 3), Again)
    assert isinstance(judge(_answer(200, b"[1]"), 3, 3), Final)


def test_only_a_gateway_that_knows_the_line_ends_it() -> None:
    for status in (200, 401, 404, 500):
        told = judge(_answer(status, {"error": {}}, is_told=False), 99, 3)
        assert isinstance(told, Again)
        assert not told.counts
    assert isinstance(judge(None, 99, 3), Again)


def test_answers_and_refusals_end_a_line() -> None:
    good, bad = judge(_answer(200, {"id": "x"}), 1, 3), judge(_answer(400, {"error": {}}), 1, 3)
    assert isinstance(good, Final)
    assert isinstance(bad, Final)
    assert (good.is_good, bad.is_good) == (True, False)
    told = json.loads(result_line("req-1", "a", good))
    assert told["custom_id"] == "a"
    assert told["response"]["status_code"] == 200
    assert told["error"] is None


@given(st.integers(1, 10_000), st.floats(0, 1e6))
def test_pauses_grow_and_are_bounded(refusals: int, asked: float) -> None:
    pause = pause_seconds(refusals, asked)
    assert 0 < pause <= LONGEST_PAUSE_SECONDS
    assert pause <= pause_seconds(refusals + 1, asked)


@given(st.integers(1, 5), st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_places_are_never_more_than_there_are_and_projects_have_equal_shares(
    places: int, moves: Sequence[tuple[str, bool]]
) -> None:
    slots, held, waiting = FairSlots(places), dict.fromkeys("abc", 0), dict.fromkeys("abc", 0)
    for project, begins in moves:
        if begins:
            if slots.ask(project, project):
                held[project] += 1
            else:
                waiting[project] += 1
        elif held[project]:
            held[project] -= 1
            before = dict(held)
            if (who := slots.end(project)) is not None:
                assert isinstance(who, str)
                assert before[who] == min(before[name] for name in "abc" if waiting[name])
                waiting[who] -= 1
                held[who] += 1
        elif waiting[project]:
            slots.leave(project, project)
            waiting[project] -= 1
        assert sum(held.values()) <= places
        assert {name: slots.held(name) for name in "abc"} == held
        assert not any(waiting.values()) or sum(held.values()) == places
