"""A rehearsal goes on from what engines are at: no fleet begins with nothing where others have a backlog."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.core.mode.decide import Rules, Standing
from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.mode.pilot import COURSE_SECONDS, LOST, MOST_COURSE, course, look
from inference.core.mode.rehearsal import Course, Rehearsal, Stage, Underway
from inference.core.mode.traffic import Profile, ServedRequest
from inference.core.performance.device_figures import Layout
from inference.core.performance.options import Slo
from inference.core.performance.roofline import Roofline
from tests.fixtures.performance_scene import LLAMA_8B, shape, supply

NPU = supply("910B1", 8, vendor="ascend")
STAGE = Stage(shape(LLAMA_8B), [Roofline()])
SLO = Slo(1000, 40)


COURSE = round(COURSE_SECONDS)


def fleet(readers: int = 0, engines: int = 8) -> Fleet:
    return Fleet((EngineGroup(NPU, Layout(), engines, readers),), 512 if readers else 0)


def stream(rate: float, prompt: int = 1000, output: int = 100, lasts: float = 3.0) -> list[ServedRequest]:
    """Half a minute."""
    return [
        ServedRequest(n / rate, n / rate + lasts, prompt * (1 + n % 3) // 2, output)
        for n in range(int(rate * 30))
    ]


def underway(present: Fleet, requests: Sequence[ServedRequest]) -> Underway:
    return STAGE.underway(present, course(requests, -1.0))


def profile(requests: Sequence[ServedRequest], rate: float) -> Profile:
    prompt = sum(one.prompt_tokens for one in requests) // len(requests)
    return Profile(rate, prompt, requests[0].output_tokens, 0.0, len(requests))


def test_what_was_on_its_way_is_a_part_of_its_answer() -> None:
    requests = [ServedRequest(0.0, 20.0, 100, 100), ServedRequest(8.0, 9.0, 100, 50)]
    requests += [ServedRequest(10.0 + at, 140.0, 100, 10) for at in range(COURSE + 1)]
    found = course(requests, -1.0)
    assert found.from_seconds == 10.0
    assert list(found.begun) == [(requests[0], 50)]
    assert list(found.since) == requests[2:]


@pytest.mark.parametrize(("changed", "start"), [(-1.0, 30.0), (100.0, 100.0), (999.0, 149.0)])
def test_nothing_is_played_on_roles_that_engines_did_not_have(changed: float, start: float) -> None:
    requests = [ServedRequest(float(at), at + 3.0, 100, 10) for at in range(150)]
    assert course(requests, changed).from_seconds == pytest.approx(start, abs=1.0)


def test_a_backlog_of_two_minutes_is_seen_whole_at_a_high_rate() -> None:
    """And of a higher one as much as is bounded."""
    fast = [ServedRequest(at / 190, at / 190 + 20.0, 100, 10) for at in range(190 * 150)]
    assert len(course(fast, -1.0).since) == pytest.approx(190 * COURSE, abs=2)
    faster = [ServedRequest(at / 800, at / 800 + 20.0, 100, 10) for at in range(800 * 60)]
    found = course(faster, -1.0)
    assert len(found.since) == MOST_COURSE
    assert len(found.begun) <= MOST_COURSE


def test_while_most_has_not_ended_nothing_is_concluded() -> None:
    requests = stream(80.0, 2000, 100, lasts=20.0)
    seen = profile(requests, 80.0)
    verdict = look(STAGE, fleet(), (), requests, seen, SLO, Standing(), Rules(), 30.0)
    assert verdict.taken is None
    assert verdict.standing == Standing()
    assert "of 2400 requests have not ended" in verdict.reasons[1]


@given(st.floats(1.0, 60.0), st.integers(1, 200), st.integers(0, 7), st.integers(0, 7))
@settings(max_examples=6, deadline=None)
def test_whatever_engines_are_at_and_become_each_answer_is_written_to_its_end(
    rate: float, output: int, before: int, then: int
) -> None:
    after = underway(fleet(before), stream(rate, output=output))
    replay = after.replay.copied(lambda _: None)
    replay.assign([one.role for one in STAGE.engines(fleet(then))], 512)
    replay.until(float("inf"))
    for engine in replay.engines:
        assert (engine.unread_tokens, engine.in_flight, engine._held, engine._context) == (0, 0, 0, 0)


@given(st.floats(1.0, 60.0), st.integers(1, 200), st.integers(0, 7))
@settings(max_examples=6, deadline=None)
def test_what_stays_is_worth_the_same_at_any_load_however_often_it_is_played(
    rate: float, output: int, readers: int
) -> None:
    requests = stream(rate, output=output)
    after = underway(fleet(readers), requests)
    first = STAGE.rehearse(fleet(readers), requests, SLO, 1.1, after)
    STAGE.rehearse(fleet(7 - readers), requests, SLO, 1.1, after)
    assert STAGE.rehearse(fleet(readers), requests, SLO, 1.1, after) == first


def test_a_backlog_counts() -> None:
    """3,000 answers on their way keep a fleet from being in time that would be from the beginning."""
    requests = stream(20.0)
    begun = [(ServedRequest(-9.0, 99.0, 1000, 2000), 2000)] * 3000
    after = STAGE.underway(fleet(), Course(begun, requests[-10:], requests[-10].started_seconds))
    assert STAGE.rehearse(fleet(), requests, SLO).good == 1.0
    assert STAGE.rehearse(fleet(), requests, SLO, 1.0, after).good < 0.5
    others = fleet(engines=9)
    assert STAGE.rehearse(others, requests, SLO, 1.0, after) == STAGE.rehearse(others, requests, SLO)


@pytest.mark.parametrize("rate", [2.0, 30.0, 80.0])
def test_where_nothing_better_is_there_nothing_changes_at_any_load(rate: float) -> None:
    """From the roles that are taken of a constant stream, with the same backlog again and again."""
    requests = stream(rate, 1000, 60, lasts=10.0)
    present, standing, changes = fleet(), Standing(), []
    for number in range(12):
        verdict = look(
            *(STAGE, present, (), requests, profile(requests, rate), SLO, standing, Rules(), 60.0 * number)
        )
        present, standing = verdict.taken or present, verdict.standing
        changes += [present] if verdict.taken is not None else []
    assert len(changes) == len(set(changes)) <= 2


class _Drowned(Stage):
    """Whatever engines become, what they are at keeps ``good`` in time; without it readers are best."""

    def __init__(self, good: float) -> None:
        super().__init__(shape(LLAMA_8B), [Roofline()])
        self._good = good

    def rehearse(
        self,
        fleet: Fleet,
        requests: Sequence[ServedRequest],
        slo: Slo,
        load: float = 1.0,
        after: Underway | None = None,
    ) -> Rehearsal:
        without = 0.9 if fleet.readers else 0.1
        return Rehearsal(fleet, without if after is None else self._good, 0.0, 0.0)


@pytest.mark.parametrize(("good", "changes"), [(0.0, True), (LOST - 0.01, True), (LOST + 0.01, False)])
def test_where_all_that_waits_is_lost_roles_are_told_apart_without_it(good: float, changes: bool) -> None:
    requests, standing = stream(30.0), Standing()
    seen = profile(requests, 30.0)
    for at in (0.0, 30.0):
        verdict = look(_Drowned(good), fleet(), (), requests, seen, SLO, standing, Rules(), at)
        standing = verdict.standing
    assert (verdict.taken is not None) == changes
