"""When a fleet is changed, and that it never flaps."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.mode.decide import HOUR_SECONDS, Assessed, Contender, Rules, Standing, decide_mode
from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.performance.device_figures import Layout
from tests.fixtures.performance_scene import supply

H100, H200 = supply("H100-SXM", 8), supply("H200-SXM", 8)
RULES = Rules()
LOOK_SECONDS = 15.0


def fleet(readers: int, engines: int = 8) -> Fleet:
    return Fleet((EngineGroup(H100, Layout(), engines, readers),), 512 if readers else 0)


PLAIN, APART, MORE_APART = fleet(0), fleet(3), fleet(4)
FLEETS = (PLAIN, APART, MORE_APART)
Worths = dict[Fleet, float]


def played(
    looks: list[Worths], rules: Rules = RULES, each: float = LOOK_SECONDS
) -> list[tuple[float, Fleet]]:
    """The changes that so many looks lead to, each with its time."""
    present, standing, changes = PLAIN, Standing(), []
    for number, worths in enumerate(looks):
        others = [Assessed(one, worth) for one, worth in worths.items() if one != present]
        verdict = decide_mode(Assessed(present, worths[present]), others, standing, rules, number * each)
        standing = verdict.standing
        if verdict.taken is not None:
            present = verdict.taken
            changes.append((number * each, present))
    return changes


def ready(*fleets: Fleet) -> Standing:
    """These have been better for long."""
    return Standing(tuple(Contender(one, 0.0, 99.0, 0.1) for one in fleets))


def worths(plain: float, apart: float, more: float = 0.0) -> Worths:
    return {PLAIN: plain, APART: apart, MORE_APART: more}


def test_what_is_better_is_taken_once_it_has_been_better_for_long_enough() -> None:
    assert played([worths(0.6, 0.69)] * 20) == [(RULES.hold_seconds, APART)]


@pytest.mark.parametrize(("gain", "seconds"), [(0.11, 25.0), (0.15, 15.0), (0.3, 6.0), (0.9, 2.0)])
def test_what_is_much_better_is_taken_sooner_and_never_at_once(gain: float, seconds: float) -> None:
    """A gain of the margin over the margin waits for ``hold_seconds``, and no other for longer."""
    assert played([worths(0.05, 0.05 + gain + 1e-9)] * 60, each=1.0) == [(seconds, APART)]
    assert played([worths(0.05, 0.95)] + [worths(0.5, 0.5)] * 20) == []


def test_engines_are_started_only_for_what_is_better_for_all_of_the_time() -> None:
    larger = Fleet((EngineGroup(H200, Layout(), 8),))
    standing, present = Standing(), Assessed(PLAIN, 0.1)
    for at in range(30):
        verdict = decide_mode(present, [Assessed(larger, 0.9)], standing, RULES, float(at))
        standing = verdict.standing
        assert verdict.taken is None
    assert decide_mode(present, [Assessed(larger, 0.9)], standing, RULES, 30.0).taken == larger


def test_what_is_better_for_a_moment_is_not_taken() -> None:
    assert played(([worths(0.6, 0.69)] * 2 + [worths(0.9, 0.9)]) * 20) == []


def test_another_split_has_itself_to_be_better_for_long_enough() -> None:
    """Others were, one after the other: none of them for long."""
    standing, splits = Standing(), [fleet(readers) for readers in (3, 4)]
    for number in range(40):
        others = [Assessed(one, 0.6 if at == number % 2 else 0.5) for at, one in enumerate(splits)]
        verdict = decide_mode(Assessed(fleet(5), 0.5), others, standing, RULES, 15.0 * number)
        standing = verdict.standing
        assert verdict.taken is None


@pytest.mark.parametrize(
    ("present", "other", "engines", "seconds"),
    [(False, True, 8, 10.0), (True, True, 8, 30.0), (False, False, 8, 30.0), (False, True, 9, 30.0)],
    ids=["rescued", "kept by both", "kept by neither", "engines are started"],
)
def test_what_keeps_a_target_that_is_missed_is_taken_sooner(
    present: bool, other: bool, engines: int, seconds: float
) -> None:
    standing, at = Standing(), 0.0
    others = [Assessed(fleet(3, engines), 0.99, keeps=other)]
    while (
        verdict := decide_mode(Assessed(PLAIN, 0.92, keeps=present), others, standing, RULES, at)
    ).taken is None:
        standing, at = verdict.standing, at + 5.0
    assert at == seconds


def test_another_mode_has_to_be_better_whichever_of_its_splits_is_the_best() -> None:
    turns = [worths(0.5, 0.6, 0.5), worths(0.5, 0.5, 0.6)]
    assert played(turns * 20)[0][0] == RULES.hold_seconds


def test_what_is_held_stays_held_where_engines_come_or_go() -> None:
    standing, taken = Standing(), None
    for number, engines in enumerate((8, 9, 8, 7)):
        present = Assessed(fleet(1, engines), 0.5)
        others = [Assessed(fleet(readers, engines), 0.58) for readers in (2, 3)]
        verdict = decide_mode(present, others, standing, RULES, 10.0 * number)
        standing, taken = verdict.standing, verdict.taken
    assert taken is not None
    assert (taken.engines, taken.mode) == (7, "disaggregated")


def test_much_better_roles_need_not_wait_for_a_longer_cool_down() -> None:
    """Three changes within the last minutes: the next waits for 240 s after the last, or for 60 s."""
    recent = ((100.0, False), (200.0, False), (300.0, False))
    held = (Contender(APART, 0.0, 359.0, 1.0, 10.0),)

    def taken(worth: float, at: float, changes: tuple[tuple[float, bool], ...] = recent) -> bool:
        present, standing = Assessed(PLAIN, 0.1), Standing(held, changes)
        return decide_mode(present, [Assessed(APART, worth)], standing, RULES, at).taken is not None

    assert not taken(0.9, 359.0)
    assert taken(0.9, 360.0)
    assert not taken(0.3, 360.0)
    assert taken(0.3, 540.0)
    assert not taken(0.9, 540.0, (*recent[:2], (300.0, True))), "engines were started"
    full = tuple((60.0 * number, False) for number in range(1, RULES.most_in_an_hour + 1))
    assert not taken(0.9, HOUR_SECONDS + 59.0, full)
    assert taken(0.9, HOUR_SECONDS + 60.0, full)


@pytest.mark.parametrize(("better", "changes"), [(0.05, 0), (0.051, 1)])
def test_a_change_has_to_be_better_by_the_margin(better: float, changes: int) -> None:
    assert len(played([worths(0.0, better)] * 20)) == changes


def test_of_nearly_equal_ones_that_with_fewer_parts_is_taken() -> None:
    verdict = decide_mode(
        Assessed(APART, 0.2),
        [Assessed(MORE_APART, 0.92), Assessed(PLAIN, 0.9)],
        ready(MORE_APART, PLAIN),
        RULES,
        100.0,
    )
    assert verdict.taken == PLAIN


def test_reasons_are_words_and_figures() -> None:
    present, other = Assessed(PLAIN, 0.6, "60 % good"), Assessed(APART, 0.9, "90 % good")
    first = decide_mode(present, [other], Standing(), RULES, 0.0)
    assert first.taken is None
    assert first.reasons == (
        f"{APART.words} is better: 90 % good against 60 % good now",
        "it has been for 0 s, and has to be for another 6 s",
    )
    assert APART.words == (
        "disaggregated: 3 prefill and 5 decode x nvidia/H100-SXM tp1, prompts under 512 tokens read by decode"
    )
    taken = decide_mode(present, [other], first.standing, RULES, 60.0)
    assert taken.reasons[1] == "no engine is started, roles change"
    rest = decide_mode(
        other, [replace(present, worth=1.0)], taken.standing, replace(RULES, hold_seconds=0), 62.0
    )
    assert rest.reasons[1] == "1 changes in the last hour: nothing is changed for another 58 s"
    kept = decide_mode(present, [replace(other, worth=0.61)], Standing(), RULES, 0.0)
    assert kept.reasons[0] == "replicated: 8 x nvidia/H100-SXM tp1 stays: 60 % good"
    assert "a change has to be better by 5 % of requests" in kept.reasons[1]


def test_the_start_of_engines_has_to_be_gained_within_the_horizon() -> None:
    larger = Fleet((EngineGroup(H200, Layout(), 8),))
    present, other = Assessed(PLAIN, 0.9), Assessed(larger, 0.97)
    slow = replace(RULES, start_seconds=300.0)
    assert larger.restarts(PLAIN) == 8
    assert decide_mode(present, [other], ready(larger), RULES, 100.0).taken == larger
    assert decide_mode(present, [other], ready(larger), slow, 100.0).taken is None
    assert decide_mode(present, [Assessed(APART, 0.97)], ready(APART), slow, 100.0).taken == APART


@pytest.mark.parametrize("worth", [math.nan, math.inf, -math.inf])
def test_what_is_worth_no_number_is_no_candidate(worth: float) -> None:
    assert played([worths(0.5, worth)] * 20) == []


def test_what_is_worth_no_number_is_not_kept_for_ever() -> None:
    assert (
        decide_mode(Assessed(PLAIN, math.nan), [Assessed(APART, 0.9)], Standing(), RULES, 0.0).taken is None
    )


@given(
    st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=40),
    st.sampled_from([(5.0, 0.0), (60.0, 60.0), (15.0, 30.0)]),
)
def test_an_hour_has_a_bounded_number_of_changes_whatever_comes(
    looks: list[tuple[float, float, float]], pace: tuple[float, float]
) -> None:
    each, hold = pace
    rules = replace(RULES, hold_seconds=hold)
    hours = [worths(*looks[number % len(looks)]) for number in range(int(2 * HOUR_SECONDS / each))]
    times = [at for at, _ in played(hours, rules, each)]
    for start in times:
        assert sum(start <= at < start + HOUR_SECONDS for at in times) <= rules.most_in_an_hour


def test_the_worst_profile_reaches_that_bound() -> None:
    """Each time something else is best: the bound is no larger than it has to be."""
    rules = replace(RULES, hold_seconds=0.0)
    looks = [worths(*((1.0, 0.0) if number % 2 else (0.0, 1.0))) for number in range(3600)]
    assert len(played(looks, rules, 1.0)) == rules.most_in_an_hour == 6


@given(
    st.tuples(*[st.floats(0.1, 0.9)] * 3),
    st.lists(st.tuples(*[st.floats(-0.999, 0.999)] * 3), min_size=5, max_size=50),
)
def test_noise_within_the_margin_leads_to_what_is_better_and_never_back(
    true: tuple[float, float, float], noise: list[tuple[float, float, float]]
) -> None:
    half = RULES.margin / 2
    looks = [
        worths(*(worth + half * drawn for worth, drawn in zip(true, noise[number % len(noise)], strict=True)))
        for number in range(1000)
    ]
    constant = dict(zip(FLEETS, true, strict=True))
    path = [PLAIN, *(taken for _, taken in played(looks))]
    assert all(constant[later] > constant[earlier] for earlier, later in pairwise(path))
    assert len(path) <= len(FLEETS)
    assert constant[path[-1]] >= max(true) - 2 * RULES.margin - RULES.margin / 2


def test_each_real_shift_leads_to_one_change() -> None:
    day = [worths(0.9, 0.5)] * 240 + [worths(0.5, 0.9)] * 240
    assert [taken for _, taken in played(day * 3)] == [APART, PLAIN, APART, PLAIN, APART]


def test_a_clock_that_goes_back_allows_no_more() -> None:
    standing = Standing((Contender(APART, 1e9, 1e9, 0.5, 99.0),), ((1e9, False),))
    verdict = decide_mode(Assessed(PLAIN, 0.1), [Assessed(APART, 0.9)], standing, RULES, 5.0)
    assert verdict.taken is None
    assert [one.since for one in verdict.standing.contenders] == [5.0]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40),
    st.lists(st.sampled_from(FLEETS[1:]), max_size=2),
)
def test_for_what_is_no_better_nothing_changes_whatever_was_held(
    looks: list[tuple[float, float, float]], held: list[Fleet]
) -> None:
    standing = ready(*held)
    for number, (worth, *less) in enumerate(looks * 10):
        others = [Assessed(one, worth * part) for one, part in zip(FLEETS[1:], less, strict=True)]
        verdict = decide_mode(Assessed(PLAIN, worth), others, standing, RULES, 100.0 + 15.0 * number)
        standing = verdict.standing
        assert verdict.taken is None
        assert standing.contenders == ()


@pytest.mark.parametrize(("calm", "changes"), [(5, 1), (40, 0)])
def test_a_burst_is_not_forgotten_at_once(calm: int, changes: int) -> None:
    """Four seconds of much, some of nothing, two of much: each alone is too short."""
    looks = [worths(0.5, 0.9)] * 5 + [worths(0.5, 0.5)] * calm + [worths(0.5, 0.9)] * 3
    found = played(looks, each=1.0)
    assert len(found) == changes
    assert all(at > calm + 4 for at, _ in found), "changed only while it is better"


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=60))
def test_what_was_better_lately_is_forgotten_in_the_time_of_a_hold(
    looks: list[tuple[float, float, float]],
) -> None:
    standing = Standing()
    for number, (plain, apart, more) in enumerate(looks):
        others = [Assessed(APART, apart), Assessed(MORE_APART, more)]
        standing = decide_mode(Assessed(PLAIN, plain), others, standing, RULES, 5.0 * number).standing
        assert all(0 <= one.lost <= RULES.margin * RULES.hold_seconds for one in standing.contenders)
    for number in range(len(looks), len(looks) + 7):
        others = [Assessed(APART, 0.5), Assessed(MORE_APART, 0.5)]
        standing = decide_mode(Assessed(PLAIN, 0.5), others, standing, RULES, 5.0 * number).standing
    assert standing.contenders == ()
