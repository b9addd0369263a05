"""What reshaping answers in small worlds: who may move, at which cost and where to; who can spare, gain or
hand over ranks; which nodes are emptied."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from scheduler.core.model.types import (
    Admit,
    DeviceView,
    Migrate,
    NodeView,
    Policy,
    QueueView,
    Request,
    Resize,
    RoleView,
    RunningView,
    WorkloadView,
)
from scheduler.core.placement.placing import Bounds
from scheduler.core.placement.trial import Trial
from scheduler.core.reshape.consolidation import consolidate
from scheduler.core.reshape.elastic import (
    fullest_role,
    grow,
    is_elastic,
    part_held,
    spare_ranks,
    with_rank,
    within_quota,
    without,
)
from scheduler.core.reshape.migration import plan_moves
from scheduler.core.reshape.movers import Movers
from scheduler.core.reshape.starters import Starters
from tests.fixtures.approving import told
from tests.unit.scheduler.approved.story import line_of
from tests.unit.scheduler.asked.small import CATALOGUE, MODELS, small_world
from tests.unit.scheduler.worlds import GIB, NOW_MS, RACK, World, fill


def scattered_world(rng: random.Random) -> World:
    """Up to ten nodes of one or two kinds, with little on each: workloads of few ranks that start, end, move,
    grow and shrink."""
    models = rng.choice((MODELS[:1], MODELS[:1], MODELS[:2]))
    nodes = tuple(
        _node(rng, f"n{number}", rng.choice(models)) for number in range(rng.choice((2, 3, 4, 6, 10)))
    )
    queues = (QueueView("a"), QueueView("b", max_devices=rng.choice((None, 3, 6))))
    policy = Policy(
        topology=(RACK,),
        max_moves=rng.choice((0, 1, 2, 8)),
        min_run_seconds=rng.choice((0, 300)),
        resize_seconds=rng.choice((0, 120)),
    )
    pending = tuple(_workload(rng, f"p{number}") for number in range(4))
    world = World(nodes, queues, (), pending, policy, catalogue=CATALOGUE)
    running = [one for one in fill(rng, world, rng.choice((0.7, 1.5)), _workload) if rng.random() < 0.6]
    return replace(world, running=tuple(_aged(rng, one) for one in running))


def _node(rng: random.Random, name: str, model: tuple[str, str]) -> NodeView:
    devices = [
        DeviceView(f"{name}/{at}", at, *model, 8 * GIB, island=at // 4, healthy=rng.random() < 0.97)
        for at in range(rng.choice((2, 4, 4, 8)))
    ]
    if rng.random() < 0.1:
        devices.append(DeviceView(f"{name}/cpu", 0, "cpu", "cpu", 8 * GIB, slots=4))
    return NodeView(
        name, tuple(devices), labels=((RACK, f"r{rng.randrange(2)}"),), cpu_millis=rng.choice((0, 0, 4000))
    )


def _workload(rng: random.Random, uid: str) -> WorkloadView:
    ranks, whole = rng.choice((1, 1, 2, 3, 4)), rng.random() < 0.7
    request = Request(
        rng.choice((1, 1, 2, 4)) if whole else 1,
        share_millis=1000 if whole else rng.choice((250, 500)),
        cpu_millis=rng.choice((0, 0, 0, 1000)),
        models=rng.choice(((), (), ("big",))),
    )
    roles = [RoleView("main", ranks, request, rng.choice((None, 0, 1, 2)))]
    if rng.random() < 0.25:
        roles.append(RoleView("side", rng.choice((1, 2, 3)), Request(1), rng.choice((None, 1))))
    return WorkloadView(
        uid,
        "p",
        uid,
        rng.choice("ab"),
        rng.choice((0, 0, 1)),
        NOW_MS - rng.randrange(3),
        tuple(roles),
        preemptible=rng.random() < 0.9,
        movable=rng.random() < 0.8,
        expected_seconds=rng.choice((None, 120, 121, 300, 3600)),
        kind=rng.choice(("training", "other")),
    )


def _aged(rng: random.Random, one: RunningView) -> RunningView:
    """Some with fewer ranks than they ask for; ages at which something changes, or just before."""
    placement = one.placement
    spare = spare_ranks(one)
    if rng.random() < 0.5:
        gone = [
            rank for rank in placement if rank.replica and rank.replica >= len(placement) - spare[rank.role]
        ]
        placement = without(placement, gone[: rng.randrange(3)])
    return replace(
        one,
        placement=placement,
        started_ms=NOW_MS - rng.choice((0, 1, 60_000, 120_000, 299_999, 300_000)),
        resized_ms=rng.choice((0, 0, NOW_MS - 120_000, NOW_MS - 119_999)),
        leaving=rng.random() < 0.05,
    )


def move_answers(seed: int) -> Iterator[str]:
    """Who may be moved, and what is moved so that nodes are empty or somebody fits."""
    rng = random.Random(seed)
    world = scattered_world(rng) if rng.random() < 0.75 else small_world(rng, nodes=5)
    trial = world.trial()
    movers = Movers(trial)
    yield f"{sorted(movers.views)} {sorted(movers.on_node.items())}"
    for number, uids in sorted(movers.on_node.items()):
        yield f" {number} costs {movers.cost(uids)}, without it {movers.cost(uids[1:])}"
        yield f"  {told(movers.places_on(uids, number))}"
        for within in (None, number):
            mark = trial.mark()
            found = movers.move(uids, [number] if within is None else [], (), within)
            yield f"  moved {told(found)} left {told(movers.left_by(found)) if found else ''} {_free(trial)}"
            trial.rollback(mark)
    mark = trial.mark()
    yield f"to empty nodes {_lines(consolidate(trial))} {_free(trial)}"
    trial.rollback(mark)
    for workload in world.pending:
        bounds = trial.bounds_for(workload)
        if isinstance(bounds, Bounds):
            yield f"for {workload.uid} {_lines(plan_moves(trial, workload, bounds))} {_free(trial)}"
            trial.rollback(mark)


def _lines(changes: Sequence[Migrate | Resize] | None) -> list[str] | None:
    return None if changes is None else [line_of(change) for change in changes]


def _free(trial: Trial) -> list[tuple[tuple[str, str], int]]:
    return sorted(trial.pool.free_millis().items())


def rank_answers(seed: int) -> Iterator[str]:
    """What elastic ones can spare, and what they get of what is left over."""
    rng = random.Random(seed)
    world = scattered_world(rng)
    trial = world.trial()
    for one in trial.running.values():
        spare = spare_ranks(one)
        yield f"{one.workload.uid} {is_elastic(one.workload)} {spare} {told(part_held(one))}"
        some = [rank for rank in one.placement if rng.random() < 0.5]
        left = without(one.placement, some)
        again = [
            with_rank(replace(one, placement=left), role, some[0]) for role in one.workload.roles if some
        ]
        yield f" {_ranks(left)} {[_ranks(each) for each in again]}"
        if any(spare.values()):
            yield f" {fullest_role(one.workload, spare)}"
    mark = trial.mark()
    yield f"grows {_lines(grow(trial, False))} {_lines(grow(trial, True))} {_free(trial)}"
    trial.rollback(mark)
    for workload in world.pending:
        placed = trial.place(workload)
        if isinstance(placed, tuple):
            allowed = within_quota(trial, workload, placed)
            yield f"{workload.uid} of {_ranks(placed)} may have {_ranks(allowed)}"
        trial.rollback(mark)


def _ranks(placement: Sequence[object]) -> list[object]:
    return [(one.role, one.replica, one.rank, one.node) for one in placement]  # type: ignore[attr-defined]


def start_answers(seed: int) -> Iterator[str]:
    """How those that start in one cycle share what there is."""
    rng = random.Random(seed)
    world = scattered_world(rng)
    trial = world.trial()
    starters, decided = Starters(trial), list[Admit]()
    for number in range(6):
        workload = replace(_workload(rng, f"s{number}"), queue="a", priority=rng.choice((0, 0, 1)))
        placed = trial.place(workload)
        mark = trial.mark()
        if not isinstance(placed, tuple):
            made = starters.make_way(workload)
            yield f"{workload.uid} is given {told(made)}"
            if made is None or rng.random() < 0.2:
                trial.rollback(mark)
                continue
            placed = made
        trial.admit(workload, placed)
        starters.came(workload)
        decided.append(Admit(workload.uid, placed))
        yield f"{workload.uid} {list(map(line_of, starters.as_they_are(decided)))}"
