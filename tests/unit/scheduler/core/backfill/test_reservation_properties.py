"""Against a search that looks at every moment, and on the virtual clock: what was promised is kept."""

import random
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.backfill.reservation import Reservation, backfill, reserve
from scheduler.core.cycle import run_cycle
from scheduler.core.model.runtimes import end_ms
from scheduler.core.model.types import (
    Admit,
    Decision,
    Defer,
    NodeView,
    Policy,
    QueueView,
    Request,
    WorkloadView,
)
from scheduler.core.placement.placing import Bounds, Stuck
from scheduler.core.placement.snapshot import Snapshot
from scheduler.core.placement.trial import Trial
from scheduler.sim.engine import simulate
from scheduler.sim.jobs import Job
from scheduler.sim.options import Hooks, Options
from tests.unit.scheduler.random_pools import NOW_MS, snapshots
from tests.unit.scheduler.sim_build import gpu_job, gpu_node


def moments(trial: Trial) -> list[int]:
    ends = (end_ms(running, NOW_MS) for running in trial.running.values())
    return sorted({at_ms for at_ms in ends if at_ms is not None})


def fits_at(snapshot: Snapshot, workload: WorkloadView, bounds: Bounds, at_ms: int) -> bool:
    trial = Trial(snapshot, Policy(), NOW_MS)
    mark = trial.mark()
    for uid, running in list(trial.running.items()):
        ends = end_ms(running, NOW_MS)
        if ends is not None and ends <= at_ms:
            trial.evict(uid)
    found = trial.place(workload, bounds)
    trial.rollback(mark)
    return not isinstance(found, Stuck)


@settings(max_examples=80, deadline=None)
@given(snapshots())
def test_the_first_moment_with_room_is_found(snapshot: Snapshot) -> None:
    for workload in snapshot.pending:
        trial = Trial(snapshot, Policy(), NOW_MS)
        bounds = trial.bounds_for(workload)
        if not isinstance(bounds, Bounds) or fits_at(snapshot, workload, bounds, 0):
            continue
        before = trial.pool.free_millis(), list(trial.pool.state_of), trial.mark()
        found = reserve(trial, workload, bounds)
        assert before == (trial.pool.free_millis(), list(trial.pool.state_of), trial.mark())
        rooms = [at_ms for at_ms in moments(trial) if fits_at(snapshot, workload, bounds, at_ms)]
        one_shape = len({role.request for role in workload.roles}) == 1
        if found is not None:
            assert found.start_ms in rooms
        if one_shape:
            # several roles are placed greedily, so that more room may fit them worse
            assert (found.start_ms if found else None) == min(rooms, default=None)


@settings(max_examples=60, deadline=None)
@given(snapshots(), st.lists(st.integers(1, 3000), min_size=6, max_size=6))
def test_who_uses_held_nodes_is_gone_in_time(snapshot: Snapshot, lengths: list[int]) -> None:
    trial = Trial(snapshot, Policy(), NOW_MS)
    held: list[Reservation] = []
    for workload, seconds in zip(snapshot.pending, lengths, strict=False):
        workload = replace(workload, expected_seconds=seconds if seconds % 5 else None)
        bounds = trial.bounds_for(workload)
        if not isinstance(bounds, Bounds):
            continue
        placed = trial.place(workload, bounds)
        if isinstance(placed, Stuck):
            used = backfill(trial, workload, bounds, held)
            for assignment in used or ():
                ends_ms = NOW_MS + (workload.expected_seconds or 0) * 1000
                number = trial.pool.number(assignment.node)
                assert all(ends_ms <= each.start_ms for each in held if number in each.nodes)
            found = None if used else reserve(trial, workload, bounds, held)
            if found is not None:
                held.append(found)
                trial.pool.hide(found.nodes)
        hidden = [n for n in range(len(trial.pool.usage)) if trial.pool.is_hidden(n)]
        assert hidden == sorted({number for each in held for number in each.nodes})


def exact_world(seed: int) -> tuple[list[NodeView], list[Job]]:
    """Jobs of one queue and priority that arrive at any time and run exactly as long as they said."""
    rng = random.Random(seed)
    nodes = [gpu_node(f"n{n}", rng.choice((1, 2, 4, 4, 8))) for n in range(rng.randint(1, 4))]
    return nodes, [_exact(rng, number) for number in range(rng.randint(2, 20))]


def _exact(rng: random.Random, number: int) -> Job:
    seconds = rng.choice((10, 30, 70, 200, 500))
    ranks, count = rng.choice((1, 1, 1, 2, 3, 6)), rng.choice((1, 1, 2, 4))
    job = gpu_job(f"j{number:02d}", ranks, seconds, rng.randint(0, 300), expected_seconds=seconds)
    asks = replace(job.workload.roles[0], request=Request(count, ("nvidia",)))
    return replace(job, workload=replace(job.workload, roles=(asks,)))


class Promises:
    """Told of every cycle: who was promised what, and whether it was kept to the millisecond."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}

    def __call__(self, now_ms: int, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Admit):
                assert now_ms <= self.open.pop(decision.uid, now_ms), f"{decision.uid} starts late"
            elif isinstance(decision, Defer) and decision.reserved_ms is not None:
                known = self.open.get(decision.uid, decision.reserved_ms)
                self.open[decision.uid] = min(known, decision.reserved_ms)
        late = [uid for uid, promised_ms in self.open.items() if promised_ms < now_ms]
        assert not late, f"{late} are kept waiting"


def play(seed: int, reserve: int) -> Promises:
    nodes, jobs = exact_world(seed)
    promises, policy = Promises(), Policy(reserve=reserve)
    options, hooks = Options(4000, start_ms=0, spans=2), Hooks(watch=promises)
    simulate(nodes, [QueueView("default")], jobs, policy, options, run_cycle, hooks=hooks)
    return promises


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_the_first_that_waits_starts_when_it_was_promised(seed: int) -> None:
    assert not play(seed, reserve=1).open
