"""Courses of worlds: what a seed draws, played until nothing changes any more."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tests.unit.scheduler.crowded import crowded_world
from tests.unit.scheduler.life import Life
from tests.unit.scheduler.worlds import World, make_world

QUIET = 8
"""A world in which nothing has changed for so many cycles of a minute is at rest: it is longer than any least
run time, grace period and time between resizes that is drawn."""
CYCLES = 90
"""A world that has not come to rest after so many cycles goes on for ever."""
EVENTFUL = 16
"""In so many cycles things happen, before the world is left alone."""


@dataclass(frozen=True)
class Outcome:
    """``rests``: at some point nothing changes any more; ``taken``: from how many places were taken for
    others; ``useless`` and ``voided``: see ``Useless``."""

    rests: bool
    taken: int
    useless: int
    voided: int


@dataclass(frozen=True)
class Course:
    """``events``: others arrive, end, give up and lose their nodes at first; ``disturbed``: people change
    quotas, queues, nodes and workloads, too."""

    world: World
    grace_ms: int
    seed: int
    events: bool
    disturbed: bool

    def play(self) -> Outcome:
        life, rng = Life.of(self.world, grace_ms=self.grace_ms), random.Random(self.seed)
        taken = 0
        for number in range(EVENTFUL if self.events else 0):
            taken += life.cycle()
            life.happen(rng, number)
            if self.disturbed and rng.random() < 0.2:
                life.disturb(rng)
        state, same = _state(life), 0
        for _ in range(CYCLES):
            taken += life.cycle()
            before, state = state, _state(life)
            same = same + 1 if before == state else 0
            if same == QUIET:
                break
        return Outcome(same == QUIET, taken, life.useless.preemptions, life.useless.voided)


def draw_course(seed: int) -> Course:
    """Two in three worlds are crowded, with all rules of queues, the others have everything else; half of all
    are eventful, half of these are disturbed."""
    rng = random.Random(seed)
    if rng.random() < 2 / 3:
        world = crowded_world(rng)
    else:
        world = make_world(rng, rng.choice((2, 3, 4)), rng.choice((0.6, 1.2, 2.0)), rng.choice((2, 4, 6)))
        endless = tuple(
            replace(one, workload=replace(one.workload, expected_seconds=None)) for one in world.running
        )
        policy = replace(world.policy, defragment=rng.random() < 0.4, reserve=rng.choice((0, 1, 3)))
        world = replace(world, running=endless if rng.random() < 0.5 else world.running, policy=policy)
    events = rng.random() < 0.5
    grace_ms = rng.choice((10_000, 10_000, 130_000))
    return Course(world, grace_ms, rng.randrange(1 << 32), events, events and rng.random() < 0.5)


def _state(life: Life) -> object:
    """What is where, and for whom places are held."""
    running = {uid: (one.placement, one.leaving) for uid, one in life.running.items()}
    return running, {uid: workload.nominated for uid, workload in life.pending.items()}
