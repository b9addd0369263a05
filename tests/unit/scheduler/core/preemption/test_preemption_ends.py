"""Cycle after cycle in worlds where nothing ends and nothing comes: at some point nobody is taken from any
more. And in worlds where things happen: nobody is taken from for nothing."""

import random
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.scheduler.courses import Course, draw_course
from tests.unit.scheduler.life import Life
from tests.unit.scheduler.worlds import World, make_world, worlds

CYCLES = 40
QUIET = 12
ENDLESS = (145510, 686028378, 3402959073)
"""Worlds in which somebody was stopped every six cycles for a claimant that never started."""


def without_ends(world: World, *, moves: bool = False) -> World:
    running = (replace(one, workload=replace(one.workload, expected_seconds=None)) for one in world.running)
    return replace(world, running=tuple(running), policy=replace(world.policy, defragment=moves))


def come_to_rest(world: World, grace_ms: int) -> None:
    life = Life.of(world, grace_ms=grace_ms)
    taken = [life.cycle() for _ in range(CYCLES)]
    assert taken[-QUIET:] == [0] * QUIET, taken
    assert life.useless.preemptions == 0


@pytest.mark.parametrize("seed", ENDLESS)
def test_worlds_in_which_preemption_went_on_for_ever_come_to_rest(seed: int) -> None:
    come_to_rest(without_ends(make_world(random.Random(seed), 4)), 10_000)


@settings(max_examples=30, deadline=None)
@given(worlds(nodes=4), st.booleans(), st.sampled_from((10_000, 130_000)))
def test_preemption_ends_and_nobody_gives_way_for_nothing(world: World, moves: bool, grace_ms: int) -> None:
    come_to_rest(without_ends(world, moves=moves), grace_ms)


@settings(max_examples=30, deadline=None)
@given(worlds(nodes=4), st.integers(0, 2**32 - 1))
def test_what_is_cleared_for_a_claimant_stays_its_own_whatever_happens(world: World, seed: int) -> None:
    """Others arrive, end, give up and lose their node meanwhile."""
    life, rng = Life.of(world, grace_ms=130_000), random.Random(seed)
    for number in range(30):
        life.cycle()
        life.happen(rng, number)
    assert life.useless.preemptions == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1).map(draw_course))
@example(draw_course(184))
@example(draw_course(1151))
@example(draw_course(1221))
@example(draw_course(400477))
@example(draw_course(500544))
def test_whatever_queues_may_take_and_whatever_happens_it_ends_and_nothing_is_in_vain(course: Course) -> None:
    """Where no quota counts (184); where the quota goes to a more important one while places are cleared
    (1151, 1221); where an elastic one starts on more than was cleared for it, beside another that waits
    for its own (400477); where borrowers take gangs of others by priority (500544).
    ``python -m bench.preemption`` plays many more."""
    outcome = course.play()
    assert outcome.rests
    assert outcome.useless == 0
