"""When an Endpoint of mode ``auto`` is looked at: soon where something waits, seldom where nothing is new."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from inference.core.mode.decide import Contender, Standing
from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.mode.pace import AGAIN_SECONDS, LEAST_SECONDS, LOOK_SECONDS, Pace
from inference.core.mode.pilot import ENOUGH_SECONDS, FEWEST_REQUESTS
from inference.core.mode.traffic import Profile
from inference.core.performance.device_figures import Layout
from tests.fixtures.performance_scene import supply

FLEET = Fleet((EngineGroup(supply("H100-SXM", 8), Layout(), 8),))
QUIET, HELD = Standing(), Standing((Contender(FLEET, 0.0, 0.0, 0.1),))
SEEN = Profile(2.0, 1000, 100, 0.0, FEWEST_REQUESTS)


def looked(pace: Pace, now: float, profile: Profile | None = SEEN, fleet: Fleet = FLEET) -> bool:
    return not pace.rests(now, QUIET) and pace.looks(now, fleet, profile, QUIET)


def settled() -> tuple[Pace, float]:
    """One that has seen the same for longer than a minute, and when it looked last."""
    pace, now, last = Pace(), 1000.0, 0.0
    for _ in range(20):
        last = now if looked(pace, now) else last
        now += LOOK_SECONDS
    return pace, last


def test_what_is_new_is_looked_at_at_every_turn_until_enough_was_seen() -> None:
    pace = Pace()
    times = [at for at in range(0, 100, 5) if looked(pace, float(at))]
    assert times == list(range(0, int(ENOUGH_SECONDS), 5))


def test_of_too_few_requests_nothing_is_concluded_yet() -> None:
    pace, few = Pace(), replace(SEEN, requests=FEWEST_REQUESTS - 1)
    assert all(looked(pace, float(at), few) for at in range(0, 200, 5))
    assert not looked(pace, 200.0, None)
    assert looked(pace, 205.0)


def test_the_same_is_looked_at_again_after_a_while() -> None:
    pace, last = settled()
    assert not looked(pace, last + AGAIN_SECONDS - 1.0)
    assert looked(pace, last + AGAIN_SECONDS + LEAST_SECONDS)


def test_other_engines_and_other_traffic_are_looked_at() -> None:
    for profile, fleet in (
        (replace(SEEN, requests_per_second=2.2), FLEET),
        (SEEN, Fleet((replace(FLEET.groups[0], engines=9),))),
    ):
        pace, last = settled()
        assert not looked(pace, last + 110.0, replace(SEEN, requests_per_second=2.1))
        assert looked(pace, last + 110.0 + LEAST_SECONDS, profile, fleet)


def test_what_is_held_is_looked_at_at_every_turn() -> None:
    pace, last = settled()
    now = last + 110.0
    assert not pace.rests(now, HELD)
    assert pace.looks(now, FLEET, SEEN, HELD)
    assert pace.rests(now + LOOK_SECONDS - 0.1, HELD)
    assert not pace.rests(now + LOOK_SECONDS, HELD)
    assert pace.rests(now + LOOK_SECONDS, QUIET)


def test_a_load_that_is_not_kept_up_with_is_looked_at_though_nothing_about_it_is_new() -> None:
    pace, last = settled()
    now = last + 110.0
    assert not pace.looks(now, FLEET, SEEN, QUIET)
    suffers = Standing(suffers=True)
    assert pace.rests(now + LOOK_SECONDS, suffers), "not more often than anything else"
    assert not pace.rests(now + LEAST_SECONDS, suffers)
    assert pace.looks(now + LEAST_SECONDS, FLEET, SEEN, suffers)


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0.5, 4.0)), max_size=60))
def test_nothing_is_asked_for_more_often_than_is_allowed(turns: list[tuple[float, float]]) -> None:
    pace, now, asked = Pace(), 0.0, []
    for seconds, rate in turns:
        now += seconds
        if not pace.rests(now, QUIET):
            asked.append(now)
            pace.looks(now, FLEET, replace(SEEN, requests_per_second=rate), QUIET)
    later = [at for at in asked if not asked or at - asked[0] >= ENOUGH_SECONDS + LEAST_SECONDS]
    assert all(second - first >= LEAST_SECONDS for first, second in pairwise(later))
