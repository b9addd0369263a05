"""What parts of the core answer about one world, asked of all that waits and runs there: a choice that a
story hides, because another part decided first, is seen here."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from scheduler.core.backfill.delay import should_wait
from scheduler.core.backfill.releases import Releases, earliest_room
from scheduler.core.backfill.reservation import Reservation, backfill, reserve
from scheduler.core.explain.kept_off import kept_off
from scheduler.core.explain.reasons import Explainer
from scheduler.core.explain.verdicts import Verdicts
from scheduler.core.fragmentation.workload_mix import workload_mix_of
from scheduler.core.model.types import (
    Affinity,
    Defer,
    Migrate,
    Placement,
    Policy,
    Resize,
    RunningView,
    WorkloadView,
)
from scheduler.core.placement.ideal import Ideal
from scheduler.core.placement.placing import Bounds
from scheduler.core.placement.residual import residual_capacity
from scheduler.core.placement.snapshot import Snapshot
from scheduler.core.placement.trial import Trial
from scheduler.core.preemption.preemption import PreemptionPlan, find_leftover, find_room
from scheduler.core.quota.quota import QuotaTree
from scheduler.core.reshape.elastic import grow, spare_ranks, without
from scheduler.core.reshape.migration import consolidate, plan_moves
from tests.fixtures import approving as approved
from tests.unit.scheduler.approved.story import WORLDS, line_of
from tests.unit.scheduler.rich_worlds import CACHED, ISLAND, LABELS, ZONE
from tests.unit.scheduler.worlds import GIB, NOW_MS, RACK, World, fill, make_world


def _tight(rng: random.Random) -> World:
    """Nodes whose CPU or memory runs out before their devices do."""
    world = make_world(rng, 5, 0.0, 6)
    nodes = tuple(
        replace(
            node,
            cpu_millis=rng.choice((0, 4_000, 8_000)),
            host_memory_bytes=rng.choice((0, 32, 64)) * GIB,
        )
        for node in world.nodes
    )
    world = replace(world, nodes=nodes)
    return replace(world, running=fill(rng, world, 1.5))


KINDS = (*WORLDS.values(), _tight)
SCORERS = tuple(name for name, _ in Policy().weights)
MILLIS = (0, 1, 500, 1000, 4000, 9000)


def answers(seed: int) -> Iterator[str]:
    """Of the world, the policy and the moment that the seed draws."""
    rng = random.Random(seed)
    world: World = KINDS[seed % len(KINDS)](rng)
    world = replace(world, policy=_policy(rng, world.policy), now_ms=NOW_MS + rng.choice((0, 1, 299_000)))
    snapshot = world.snapshot()
    if rng.random() < 0.5:
        known = (*world.pending, *(one.workload for one in world.running))
        snapshot = replace(snapshot, workload_mix=workload_mix_of(known))
    trial = Trial(snapshot, world.policy, world.now_ms)
    for workload in world.pending:
        yield from _of_workload(trial, snapshot, workload)
        for _ in range(2):
            wish = _wishing(rng, workload)
            yield f" if it wished {wish.affinity}, {_tried(trial, partial(_placed, trial, wish))}"
    yield from _of_runs(rng, trial)
    yield from _of_quota(rng, trial.tree, [queue.name for queue in world.queues])
    yield from _of_room(rng, trial, world)


def _policy(rng: random.Random, policy: Policy) -> Policy:
    """As a rule the one that is there; else other weights, times and limits."""
    if rng.random() < 0.4:
        return policy
    weights = tuple((name, rng.choice((0.0, 0.25, 1.0, 8.0))) for name in SCORERS)
    return replace(
        policy,
        weights=weights,
        near_weight=rng.choice((0.0, 2.0)),
        data_weight=rng.choice((0.0, 2.0)),
        min_run_seconds=rng.choice((0, 300, 3600)),
        resize_seconds=rng.choice((0, 120)),
        preempt=rng.random() < 0.9,
        topology=rng.choice((policy.topology, (RACK,))),
    )


def _wishing(rng: random.Random, workload: WorkloadView) -> WorkloadView:
    """The same with another wish for its surroundings, and more ranks."""
    label = rng.choice(LABELS)
    wishes = (
        Affinity(spread=rng.choice((RACK, ZONE))),
        Affinity(spread=RACK, apart=(label,)),
        Affinity(same=rng.choice((RACK, ZONE, ISLAND))),
        Affinity(same=RACK, near=(label,)),
        Affinity(slice_same=rng.choice((RACK, ZONE)), slice_size=rng.choice((1, 2, 3))),
        Affinity(beside=(label,), data=(rng.choice(CACHED),)),
        Affinity(data=CACHED[:1], near=LABELS[:2]),
    )
    first, *rest = workload.roles
    first = replace(first, replicas=rng.choice((1, 3, 7, 8, 9, 20)), min_replicas=rng.choice((None, 1, 8)))
    return replace(workload, roles=(first, *rest), affinity=rng.choice(wishes))


def _placed(trial: Trial, workload: WorkloadView) -> str:
    placed = trial.place(workload)
    if not isinstance(placed, tuple):
        return f"{placed.fitted} of {placed.total} {placed.role.name} {placed.scattered}"
    return " ".join(f"{rank.role}.{rank.replica}={rank.node}" for rank in placed)


def _of_workload(trial: Trial, snapshot: Snapshot, workload: WorkloadView) -> Iterator[str]:
    """What its quota leaves, where it would start, why it cannot, and what would make room for it."""
    bounds = trial.bounds_for(workload)
    yield f"{workload.uid}: {bounds}"
    for role in workload.roles:
        shape = trial.pool.shape(role.request)
        room = earliest_room(Releases.of(trial), trial.pool, shape, role.least)
        tally = [(one.verdict, one.nodes) for one in Verdicts(trial.pool).tally(shape)]
        yield f" {role.name} from {room.all_ms}, {room.first_ms.tolist()}, {approved.told(tally)}"
        best = trial.pool.find(shape)
        yield f" best on {best and (best[0], best[1].score, best[1].picks)}"
    if isinstance(bounds, Bounds):
        mark = trial.mark()
        placed = trial.place(workload, bounds)
        if isinstance(placed, tuple):
            waits = should_wait(trial, snapshot.workload_mix, workload, placed, 3600)
            yield f" would start: {_places(placed)} {kept_off(trial.pool, workload, placed)} {waits}"
        else:
            told: Defer = Explainer(trial.pool).defer(workload, placed, bounds)
            ideal = Ideal(trial.pool).obstacle(workload, bounds)
            yield f" is stuck: {placed} {line_of(told)} {told.position} {ideal}"
        trial.rollback(mark)
    yield f" takes: {_tried(trial, partial(_taken, trial, workload))}"
    important = replace(workload, priority=9, preemptible=True)
    yield f" takes, if important: {_tried(trial, partial(_taken, trial, important))}"
    if isinstance(bounds, Bounds):
        yield f" waits: {_tried(trial, lambda: _plan(find_leftover(trial, workload)))}"
        yield f" moves: {_tried(trial, lambda: _changes(plan_moves(trial, workload, bounds)))}"
        yield f" later: {_tried(trial, lambda: _later(trial, snapshot, workload, bounds))}"


def _tried(trial: Trial, ask: Callable[[], str]) -> str:
    """The answer; the trial is as it was."""
    mark = trial.mark()
    told = ask()
    trial.rollback(mark)
    return told


def _later(trial: Trial, snapshot: Snapshot, workload: WorkloadView, bounds: Bounds) -> str:
    """What is held for it, and who may start on that before."""
    first = reserve(trial, workload, bounds)
    if first is None:
        return "nobody knows when"
    trial.pool.hide(first.nodes)
    others = [other for other in snapshot.pending if other.uid != workload.uid]
    before = [_tried(trial, partial(_before, trial, other, bounds, first)) for other in others]
    second = reserve(trial, others[0], bounds, [first]) if others else None
    trial.pool.unhide(first.nodes)
    return f"{first} before it {before} then {second}"


def _before(trial: Trial, other: WorkloadView, bounds: Bounds, first: Reservation) -> str:
    return str(backfill(trial, other, bounds, [first]))


def _changes(changes: Sequence[Migrate | Resize] | None) -> str:
    return "nobody can" if not changes else str([line_of(change) for change in changes])


def _taken(trial: Trial, workload: WorkloadView) -> str:
    return _plan(find_room(trial, workload, trial.bounds_for(workload)))


def _plan(plan: PreemptionPlan | None) -> str:
    if plan is None:
        return "nothing"
    changes = [*map(line_of, plan.resizes), *map(line_of, plan.victims)]
    more = plan.ready, plan.unseated, plan.displaced
    return f"{_places(plan.placement)} by {changes} {more}"


def _places(placement: Placement) -> str:
    return "; ".join(map(str, placement))


def _of_runs(rng: random.Random, trial: Trial) -> Iterator[str]:
    """What of some that run would not go to others that run, and who is beside whom."""
    placements = [one.placement for one in trial.running.values()]
    for _ in range(min(3, len(placements))):
        gone, come = rng.choice(placements), rng.choice(placements)
        yield f"left: {_places(residual_capacity(gone, come[: rng.randrange(3)]))}"
    index = trial.affinity_index
    for one in [running.workload for running in trial.running.values()][:4]:
        near = sorted(index.near(one.labels)), sorted(index.beside(one) or ()), sorted(index.closed_to(one))
        yield f"{one.uid} beside {near}"


def _smaller(trial: Trial) -> tuple[RunningView, ...]:
    """Who runs, the elastic ones with the fewest ranks that they can do with."""
    found = []
    for one in trial.running.values():
        spare = spare_ranks(one)
        gone = [rank for rank in one.placement if spare[rank.role] > rank.replica]
        found.append(replace(one, placement=without(one.placement, gone)))
    return tuple(found)


def _of_room(rng: random.Random, trial: Trial, world: World) -> Iterator[str]:
    """Who moves and who grows once some have left."""
    for uid in [uid for uid in trial.running if rng.random() < 0.4]:
        trial.evict(uid)
    world = replace(world, running=_smaller(trial))
    trial = world.trial()
    for workload in world.pending:
        yield f"{workload.uid} by moves: {_tried(trial, partial(_moved, trial, workload))}"
    yield f"to even out: {_tried(trial, lambda: _changes(consolidate(trial)))}"
    yield f"to grow: {_tried(trial, lambda: _changes(grow(trial, False)))}"


def _moved(trial: Trial, workload: WorkloadView) -> str:
    return _changes(plan_moves(trial, workload))


def _of_quota(rng: random.Random, tree: QuotaTree, queues: list[str]) -> Iterator[str]:
    """What queues may take of models, from whom, and why not."""
    models = sorted(tree.capacities) or [("nvidia", "H100")]
    members = [name for name in queues if tree.refusal(name) is None]
    for _ in range(40):
        one, other = (rng.choice(queues if rng.random() < 0.1 else members) for _ in range(2))
        model, millis = rng.choice(models), rng.choice(MILLIS)
        need = {model: millis, rng.choice(models): rng.choice(MILLIS)}
        levels = tree.levels_below_common(one, other)
        titles = tree.titles(one, levels, model, millis)
        told = [
            tree.check(one, need),
            tree.open_models(one, millis, models),
            tree.borrowed(one, model),
            tree.within_nominal(one, model, millis),
            levels,
            titles,
            tree.borrows(other, one, model, titles, millis or 1),
            tree.is_beyond_nominal(other, one, model, millis or 1),
            tree.may_even_out(one, other, model, millis, rng.choice(MILLIS)),
            tree.may_reclaim(one, other, model, millis),
        ]
        yield f"{one} of {other}, {model} {millis}: {approved.told(told)}"
