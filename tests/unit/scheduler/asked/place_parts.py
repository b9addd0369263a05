"""What placing answers in small worlds: where a gang would go, in which order sets of nodes are tried, what
keeps it away, what is said of that; and what a trial knows after changes, and after they are undone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from scheduler.core.backfill.delay import added_waste_millis, should_wait, until_ms
from scheduler.core.backfill.releases import Releases, earliest_room
from scheduler.core.backfill.reservation import Reservation, backfill, backfill_nodes, reserve
from scheduler.core.explain.kept_off import kept_off
from scheduler.core.explain.reasons import Explainer
from scheduler.core.model.types import Placement, QueueView, RunningView, Tide, WorkloadView
from scheduler.core.placement.affinity import AffinityIndex, has_wishes
from scheduler.core.placement.domains import Domains
from scheduler.core.placement.ideal import Ideal
from scheduler.core.placement.outline import RunningSummary, Starts
from scheduler.core.placement.placing import Bounds, Stuck, place_gang
from scheduler.core.placement.residual import residual_capacity
from scheduler.core.placement.trial import Trial
from scheduler.core.tide.tides import defer_for_tide, ebb, room_for_training, within_tide
from tests.fixtures.approving import told
from tests.unit.scheduler.approved.story import line_of
from tests.unit.scheduler.asked.small import (
    MODELS,
    QUEUES,
    small_mix,
    small_node,
    small_workload,
    small_world,
)
from tests.unit.scheduler.worlds import NOW_MS, World

SCORERS = (
    "accelerator",
    "heterogeneity",
    "scarcity",
    "fragmentation",
    "packing",
    "topology",
    "energy",
    "price",
)


def place_answers(seed: int) -> Iterator[str]:
    """Of one world, for all that waits there and some that might."""
    rng = random.Random(seed)
    trial, waiting = _world(rng)
    mix = small_mix(rng)
    trial.pool.use(trial.policy, mix)
    for workload in waiting:
        bounds = trial.bounds_for(workload)
        ask = trial.asks.of(workload)
        yield f"{workload.uid} {told(bounds)} {ask.number} {ask.roles} {ask.needs} {has_wishes(workload)}"
        if not isinstance(bounds, Bounds):
            continue
        bounds = rng.choice(
            (bounds, bounds, Bounds(bounds.models, tuple(range(0, len(trial.pool.nodes), 2))))
        )
        yield f" tried on {list(map(_listed, _domains(trial, workload, bounds).scopes()))}"
        mark = trial.mark()
        index = trial.affinity_index if has_wishes(workload) else None
        placed = place_gang(workload, trial.pool, trial.policy, index, bounds)
        yield f" {told(placed)}"
        yield f" {[trial.pool.is_hidden(number) for number in range(len(trial.pool.nodes))]}"
        if isinstance(placed, tuple):
            waits = [should_wait(trial, mix, workload, placed, seconds) for seconds in (0, 1, 3600)]
            waste = added_waste_millis(trial.pool, mix, placed)
            off = kept_off(trial.pool, workload, placed)
            yield f" waits {waits} {until_ms(workload, 1)} {told(waste)} {off}"
        else:
            never = Ideal(trial.pool).obstacle(workload, bounds)
            yield f" {line_of(Explainer(trial.pool).defer(workload, placed, bounds))} {told(never)}"
        trial.rollback(mark)


def _listed(scope: object) -> object:
    return None if scope is None else list(scope)  # type: ignore[call-overload]


def _world(rng: random.Random) -> tuple[Trial, list[WorkloadView]]:
    """A third of the worlds are empty; some nodes are held."""
    world = small_world(rng, SCORERS, nodes=6)
    if rng.random() < 0.3:
        world = replace(world, running=())
    trial = world.trial()
    trial.pool.hide(number for number in range(len(trial.pool.nodes)) if rng.random() < 0.15)
    more = [small_workload(rng, f"q{number}") for number in range(4)]
    return trial, [*world.pending, *(replace(one, queue=rng.choice((*QUEUES, "gone"))) for one in more)]


def _domains(trial: Trial, workload: WorkloadView, bounds: Bounds) -> Domains:
    shapes = [trial.pool.shape(role.request, bounds.models) for role in workload.roles]
    apart = bool(set(workload.affinity.apart) & set(workload.labels))
    nodes = trial.affinity_index.beside(workload)
    among = None if nodes is None else frozenset(n for n in map(trial.pool.number, nodes) if n is not None)
    return Domains(
        workload, trial.pool, trial.policy, shapes, apart=apart, among=among, hidden=bounds.only is not None
    )


def later_answers(seed: int) -> Iterator[str]:
    """When there is room for whom, what is held, who may use it before; what the tide leaves."""
    rng = random.Random(seed)
    trial, waiting = _world(rng)
    tides = tuple(
        Tide(name, rng.choice((0, 1000, 3000))) for name in rng.choice((("*",), ("nvidia", "ascend")))
    )
    trial.policy = replace(trial.policy, tides=tides)
    held: list[Reservation] = []
    yield from _of_releases(rng, trial)
    for workload in waiting[: rng.randrange(3)]:
        placed = trial.place(workload)
        if isinstance(placed, tuple):
            trial.admit(workload, placed)
    for workload in waiting:
        fitted = within_tide(trial, workload)
        room_millis = [room_for_training(trial, tide) for tide in tides]
        yield f"{workload.uid} {room_millis} {told(fitted and fitted.roles)}"
        bounds = trial.bounds_for(workload)
        if not isinstance(bounds, Bounds):
            continue
        for role in workload.roles:
            shape = trial.pool.shape(role.request, bounds.models)
            for ranks in (1, role.least, role.replicas):
                room = earliest_room(Releases.of(trial), trial.pool, shape, ranks)
                yield f" {ranks} from {room.all_ms} {room.first_ms.tolist()}"
        mark = trial.mark()
        found = backfill(trial, workload, bounds, held)
        yield f" before {told(found)} {backfill_nodes(held, workload, trial.now_ms)} {_hidden(trial)}"
        trial.rollback(mark)
        more = reserve(trial, workload, bounds, held)
        yield f" held {told(more)} {_hidden(trial)}"
        if more is not None and len(held) < 3:
            held.append(more)
            trial.pool.hide(more.nodes)
    yield f"waits {line_of(defer_for_tide(trial, waiting[0]))} {list(map(line_of, ebb(trial)))}"


def _of_releases(rng: random.Random, trial: Trial) -> Iterator[str]:
    """What ends when, followed while some go and others come: what is there anew."""
    running = [*trial.running.values()]
    gone, come = [one for one in running if rng.random() < 0.4], running[:2]
    kept = [one for one in running if one not in gone]
    come = [replace(one, workload=replace(one.workload, uid=f"{one.workload.uid}+")) for one in come]
    followed = Releases(running, trial.pool, NOW_MS)
    followed = followed.follow([one.workload.uid for one in gone], come, trial.pool, NOW_MS)
    followed = followed.follow([one.workload.uid for one in kept[:1]], (), trial.pool, NOW_MS)
    rows = [
        (one.workload.uid, place.rank, *numbers)
        for one, place, *numbers in zip(
            followed.holders,
            followed.places,
            followed.ends_ms.tolist(),
            followed.nodes.tolist(),
            followed.millis.tolist(),
            followed.devices_millis.tolist(),
            strict=True,
        )
    ]
    names = {number: key for key, number in followed.known.items()}
    yield f"ends {rows} {[names[number] for number in followed.models.tolist()]}"


def remedy_answers(seed: int) -> Iterator[str]:
    """What is said where nodes or devices are many, and all of them lost, cordoned, new or broken."""
    rng = random.Random(seed)
    accident = rng.choice(({"cordoned": True}, {"alive": False}, {"flapping_until_ms": NOW_MS}, {}))
    nodes = tuple(
        replace(small_node(rng, f"n{number:02}", MODELS[: rng.choice((1, 3, 5))]), **accident)
        for number in range(rng.choice((1, 7, 8, 9, 10)))
    )
    if not accident:
        broken = lambda node: tuple(replace(one, healthy=False, fault="f") for one in node.devices)  # noqa: E731
        nodes = tuple(replace(node, devices=broken(node)) for node in nodes)
    trial = replace(small_world(rng), nodes=nodes, running=(), queues=(QueueView("a"),)).trial()
    for number in range(6):
        workload = replace(small_workload(rng, f"w{number}"), queue="a", allowed_queues=())
        bounds, stuck = trial.bounds_for(workload), trial.place(workload)
        if isinstance(stuck, Stuck) and isinstance(bounds, Bounds):
            told_of = Explainer(trial.pool).defer(workload, stuck, bounds)
            yield f"{told(workload.roles[0].request)}: {line_of(told_of)}"


def _hidden(trial: Trial) -> list[int]:
    return [number for number in range(len(trial.pool.nodes)) if trial.pool.is_hidden(number)]


def trial_answers(seed: int) -> Iterator[str]:
    """What a trial knows after each of some changes; what it has kept is what one that is asked only then
    finds out, and undone it is as it was."""
    rng = random.Random(seed)
    world = small_world(rng, nodes=3)
    trial = world.trial()
    asked = [rng.choice(world.pending) for _ in range(2)]
    kept = rng.random() < 0.7 and _known(trial, asked)
    for _ in range(4):
        mark, before = trial.mark(), _pool_of(trial)
        done = _change(rng, trial, world)
        known = _known(trial, asked)
        yield f"{done}: {known}"
        assert _known(_anew(trial, world), asked) == known, seed
        if rng.random() < 0.4:
            trial.rollback(mark)
            assert _pool_of(trial) == before, seed
            yield f" undone {_known(trial, asked)} {bool(kept)}"


def _change(rng: random.Random, trial: Trial, world: World) -> str:
    uids = sorted(trial.running)
    what = rng.randrange(4)
    if what == 0 or not uids:
        workload = replace(rng.choice(world.pending), uid=f"new{len(uids)}")
        placed = trial.place(workload)
        if not isinstance(placed, tuple):
            return "no room"
        trial.admit(workload, placed)
        return f"admitted {workload.uid}"
    uid = rng.choice(uids)
    if what == 1:
        gone = trial.evict(uid)
        come = gone.placement[: rng.choice((0, 1))]
        if come:
            trial.pool.occupy(come)
            trial.admit(replace(gone.workload, uid=f"{uid}+"), come)
        trial.keep_residual(gone.placement, come)
        return f"evicted {uid}, left {told(trial.residual)} {trial.meets_residual(come)}"
    placement = trial.running[uid].placement
    if what == 2:
        trial.resize(uid, placement[: max(1, len(placement) - 1)])
        return f"resized {uid}"
    trial.seat(uid)
    if rng.random() < 0.5:
        trial.unseat(uid)
    return f"seated {sorted(trial.seated)}"


def _anew(trial: Trial, world: World) -> Trial:
    anew = replace(world, running=tuple(trial.running.values())).trial()
    anew.pool.occupy(trial.residual)
    return anew


def _known(trial: Trial, asked: list[WorkloadView]) -> str:
    index, queues = trial.affinity_index, (*QUEUES, "gone")
    pledged = [trial.pledges.refusal(name, {("nvidia", "big"): 2000}) is None for name in queues]
    below = [[pair for pair in sorted(trial.precedence.below(name, 2).items()) if pair[1]] for name in queues]
    uses = [sorted(trial.tree.usage(name).items()) for name in queues]
    sides = [(sorted(index.near(one.labels)), sorted(index.closed_to(one))) for one in asked]
    return f"{pledged} {below} {uses} {sides} {_pool_of(trial)} {sorted(trial.running)}"


def _pool_of(trial: Trial) -> object:
    return [
        (tuple(usage.used), usage.cpu_used_millis, usage.host_used_mebibytes) for usage in trial.pool.usage
    ]


def books_answers(seed: int) -> Iterator[str]:
    """The outline of what runs, the nodes by labels and what is residual, while some come and go: as a new
    one says."""
    rng = random.Random(seed)
    running = [_changed(rng, one) for one in small_world(rng, nodes=3).running]
    summary, starts, index, there = RunningSummary(), Starts(), AffinityIndex(), list[RunningView]()
    for _ in range(3 * len(running)):
        if there and rng.random() < 0.45:
            gone = there.pop(rng.randrange(len(there)))
            summary.remove(gone)
            starts.remove(gone.started_ms)
            index.remove(gone.workload, gone.placement)
        elif running:
            one = running.pop()
            there.append(one)
            summary.add(one)
            starts.add(one.started_ms)
            index.add(one.workload, one.placement)
        ripe_ms = NOW_MS - rng.choice((1, 60_000, 300_000))
        outline = summary.outline(ripe_ms)
        assert outline == RunningSummary(there).outline(ripe_ms)
        helps = [
            outline.helps(priority, reclaims=reclaims) for priority in (0, 1, 3) for reclaims in (False, True)
        ]
        yield f"{told(tuple(outline))} {helps} {starts.first_ms}"
        for other in there[:2]:
            workload, places = other.workload, other.placement
            near, beside = sorted(index.near(workload.labels)), index.beside(workload)
            yield f" {near} {beside and sorted(beside)} {sorted(index.closed_to(workload))}"
            yield f" {told(_residual(rng, places, rng.choice(there).placement))}"


def _residual(rng: random.Random, gone: Placement, come: Placement) -> Placement:
    less = tuple(
        rank._replace(
            shares=tuple(share._replace(millis=share.millis // rng.choice((1, 2))) for share in rank.shares),
            cpu_millis=rank.cpu_millis // rng.choice((1, 2)),
        )
        for rank in (*come, *gone[:1])
    )
    return residual_capacity((*gone, *gone[:1]), less)


def _changed(rng: random.Random, one: RunningView) -> RunningView:
    workload = replace(one.workload, priority=rng.choice((0, 1, 2)))
    ends_ms = rng.choice((None, None, NOW_MS))
    return replace(one, workload=workload, leaving=rng.random() < 0.2, ends_ms=ends_ms)
