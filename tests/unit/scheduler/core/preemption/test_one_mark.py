"""One mark of a trial undoes all that was tried since, whoever tried it; what is left of it is a plan."""

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduler.core.placement.trial import Trial
from scheduler.core.preemption.candidates import Candidates
from scheduler.core.preemption.plan import carry_out
from scheduler.core.preemption.preemption import find_room
from scheduler.core.preemption.tentative import Key, TentativeEvictions
from tests.unit.scheduler.worlds import World, fingerprint, make_world, worlds


def state(trial: Trial, evictions: TentativeEvictions, world: World) -> object:
    """All that there is to undo, with who is taken from."""
    index = trial.affinity_index
    where = [(index.near(one.workload.labels), index.closed_to(one.workload)) for one in world.running]
    less = {
        (queue.name, priority): {
            pair for pair in trial.precedence.below(queue.name, priority).items() if pair[1]
        }
        for queue in world.queues
        for priority in range(5)
    }
    shrunk = {uid: sorted(ranks) for uid, (_, ranks) in evictions.shrunk.items()}
    books = fingerprint(trial, world.queues)
    return books, where, less, trial.residual, set(trial.seated), set(evictions.evicted), shrunk


class Meddler:
    """Changes a trial in every way that there is, at random, and marks and undoes as it goes."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(seed)
        self.trial = world.trial()
        self.evictions = TentativeEvictions(self.trial)
        self.candidates = Candidates.of(self.trial).by_node.all

    def state(self) -> object:
        return state(self.trial, self.evictions, self.world)

    def meddle(self, depth: int) -> None:
        """Some changes, and others that are undone."""
        for _ in range(self.rng.randint(1, 6)):
            self.rng.choice((self.take, self.give_back, self.place, self.leave, self.ask, self.seat))()
            if depth and self.rng.random() < 0.4:
                before, mark = self.state(), self.trial.mark()
                self.meddle(depth - 1)
                self.trial.rollback(mark)
                assert self.state() == before

    def take(self) -> None:
        able = [one for one in self.candidates if one.workload.uid in self.trial.running]
        able = [one for one in able if one.workload.uid not in self.evictions.evicted]
        if able:
            one = self.rng.choice(able)
            spare = self.evictions.spare(one)
            ranks = [rank for rank in self.evictions.placement(one) if spare.get(rank.role, 0) > 0]
            self.evictions.take(one, self.rng.choice([None, *ranks]))

    def give_back(self) -> None:
        taken: list[Key] = [(one, None) for one in self.evictions.evicted.values()]
        taken += [(one, rank) for one, ranks in self.evictions.shrunk.values() for rank in ranks]
        if taken:
            self.evictions.give_back(*self.rng.choice(taken))

    def place(self) -> None:
        workload = self.rng.choice(self.world.pending)
        placement = self.trial.place(workload)
        if isinstance(placement, tuple) and workload.uid not in self.trial.running:
            self.trial.admit(workload, placement)

    def leave(self) -> None:
        touched = self.evictions.evicted.keys() | self.evictions.shrunk.keys()
        able = sorted(self.trial.running.keys() - touched)
        if able:
            gone = self.trial.evict(self.rng.choice(able)).placement
            self.trial.keep_residual(gone, gone[: len(gone) // 2])

    def ask(self) -> None:
        queue = self.rng.choice(self.world.queues).name
        model = self.rng.choice(sorted(self.trial.capacity | {("nvidia", "H100"): 0}))
        used, mark = self.trial.tree.usage(queue).get(model, 0), self.trial.mark()
        if used:
            self.trial.charge(queue, model, -self.rng.randint(1, used))
        self.trial.rollback(mark)
        self.trial.charge(queue, model, 1000)

    def seat(self) -> None:
        uid = self.rng.choice(self.world.pending).uid
        if uid in self.trial.seated:
            self.trial.unseat(uid)
        else:
            self.trial.seat(uid)


@settings(max_examples=60, deadline=None)
@given(worlds(nodes=4), st.integers(0, 1 << 32))
def test_one_mark_undoes_pool_quota_affinity_and_evictions_together(world: World, seed: int) -> None:
    meddler = Meddler(world, seed)
    before, mark = meddler.state(), meddler.trial.mark()
    meddler.meddle(3)
    meddler.trial.rollback(mark)
    assert meddler.state() == before


@settings(max_examples=60, deadline=None)
@given(worlds())
@example(make_world(random.Random(25686)))
def test_a_plan_comes_to_the_same_wherever_it_is_carried_out(world: World) -> None:
    for workload in world.pending:
        tried, fresh = world.trial(), world.trial()
        plan = find_room(tried, workload, tried.bounds_for(workload))
        if plan is not None:
            carry_out(fresh, workload, plan)
        assert fingerprint(fresh, world.queues) == fingerprint(tried, world.queues)
        assert (fresh.residual, fresh.seated) == (tried.residual, tried.seated)
