"""What a pool answers about small drawn nodes: who may serve whom, where, at which score and at which price,
while places are taken and nodes change. A pool that has lived through all of it answers as a new one does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from scheduler.core.explain.verdicts import Verdicts
from scheduler.core.fragmentation.fragmentation import Fragmentation
from scheduler.core.model.types import Assignment, Request
from scheduler.core.pool.filters import FILTERS, accepts, count_for, refusal, totals, untolerated
from scheduler.core.pool.layout import ModelKey
from scheduler.core.pool.options import Option, islands_used, millis_taken, options
from scheduler.core.pool.pool import Pool
from scheduler.core.pool.scoring import SCORERS, Scale
from scheduler.core.pool.states import Shape, ranks_in
from scheduler.core.preemption.lower_bounds import shortfall_millis
from tests.fixtures.approving import told
from tests.unit.scheduler.asked.small import (
    CACHED,
    CATALOGUE,
    MODELS,
    RACK,
    ZONE,
    small_mix,
    small_node,
    small_nodes,
    small_policy,
    small_request,
)

STEPS = 5
Held = list[tuple[Assignment, ...]]


def pool_answers(seed: int) -> Iterator[str]:
    """Of one pool over some changes; after each, whether a new pool answers alike."""
    rng = random.Random(seed)
    pool, held = Pool(small_nodes(rng, 5), CATALOGUE), Held()
    policy, mix = small_policy(rng, SCORERS), small_mix(rng)
    pool.use(policy, mix)
    asks = [(small_request(rng), _models(rng)) for _ in range(4)]
    for step in range(STEPS):
        shapes = [pool.shape(*ask) for ask in asks]
        if step in (0, STEPS - 1):
            yield from _of_nodes(pool)
            for shape in shapes:
                yield from _of_shape(pool, shape)
                yield from _of_prices(pool, shape.request)
        lived = [_best(pool, shape) for shape in shapes]
        yield f"best: {lived}"
        again = _again(pool, held)
        again.use(policy, mix)
        fresh = [_best(again, again.shape(*ask)) for ask in asks]
        assert lived == fresh, f"seed {seed}, step {step}"
        yield _changed(rng, pool, held, shapes)
        if rng.random() < 0.15:
            policy, mix = rng.choice(((policy, small_mix(rng)), (small_policy(rng, SCORERS), mix)))
            pool.use(policy, mix)
        if rng.random() < 0.3:
            asks[rng.randrange(4)] = small_request(rng), _models(rng)


def _models(rng: random.Random) -> tuple[ModelKey, ...] | None:
    return rng.choice((None, None, None, MODELS[:1], MODELS[1:4]))


def _again(pool: Pool, held: Held) -> Pool:
    again = Pool(pool.nodes, CATALOGUE)
    for places in held:
        again.occupy(places)
    again.hide(number for number in range(len(pool.nodes)) if pool.is_hidden(number))
    return again


def _best(pool: Pool, shape: Shape) -> object:
    found = pool.find(shape)
    bonused = pool.find_among(shape, range(len(pool.nodes)), hidden=True, bonus={0: 3, 1: 300, 2: -1})
    room = [pool.ranks_per_node(shape, hidden=hidden).tolist() for hidden in (False, True)]
    among = bonused and (bonused[0], _option(bonused[1]), bonused[2])
    said = told(pool.once(Verdicts).tally(shape))
    return found and (found[0], _option(found[1])), among, room, said


def _option(option: Option) -> object:
    after = option.after
    return (
        option.demand,
        option.picks,
        after.free,
        after.cpu_free_millis,
        after.host_free_mebibytes,
        option.score,
    )


def _changed(rng: random.Random, pool: Pool, held: Held, shapes: list[Shape]) -> str:
    """Somebody comes or goes, a node is hidden or shown, comes, breaks or is cordoned; or all is undone."""
    mark, number, what = pool.mark(), rng.randrange(len(pool.nodes)), rng.randrange(8)
    name = pool.view(number).name
    if what < 3:
        shape = rng.choice(shapes)
        found = pool.find(shape)
        if found is None:
            return "no room"
        shares = pool.take(shape, *found)
        request = shape.request
        place = Assignment(
            "", 0, 0, pool.view(found[0]).name, shares, request.cpu_millis, request.host_memory_bytes
        )
        if rng.random() < 0.2:
            pool.rollback(mark)
            return f"tried {told(place)}"
        held.append((place,))
        pool.commit()
        return f"took {told(place)}, {told(_usage(pool, found[0]))}"
    if what == 3 and held:
        gone = held.pop(rng.randrange(len(held)))
        pool.vacate(gone)
        return f"gave back {told(gone)}"
    if what == 4:
        change = pool.unhide if pool.is_hidden(number) else pool.hide
        change((number,))
        if rng.random() < 0.5:
            pool.rollback(mark)
        return f"hidden: {[pool.is_hidden(one) for one in range(len(pool.nodes))]}"
    if what == 5:
        pool.hide((number,))
        pool.occupy((Assignment("", 0, 0, "nowhere", (), 1, 1),))
        return f"kept: {pool.settle(mark, rng.choice((0, 1)))} {pool.is_hidden(number)} {pool.mark()}"
    view = pool.view(number)
    pool.set_node(
        rng.choice(
            (
                small_node(rng, rng.choice(("z", name)), MODELS),
                replace(view, cordoned=not view.cordoned),
                replace(view, alive=not view.alive),
                replace(view, labels=((RACK, "r0"),), taints=()),
            )
        )
    )
    return f"now {pool.nodes[-1].name} {len(pool.nodes)} {pool.number(name)} {pool.number('gone')}"


def _usage(pool: Pool, number: int) -> object:
    usage = pool.usage[number]
    return usage.used, usage.entries, usage.cpu_used_millis, usage.host_used_mebibytes


def _of_nodes(pool: Pool) -> Iterator[str]:
    """What it has, and where."""
    yield f"has {sorted(pool.capacity_millis().items())}, free {sorted(pool.free_millis().items())}"
    yield f"scale {told(Scale.of(pool.groups()))}, groups {told(pool.groups())}"
    for usage, state in zip(pool.usage, pool.state_of, strict=True):
        layout, now = usage.layout, pool.states.all[state]
        idle = pool.states.idle(pool.states.mended(layout))
        yield f"{usage.view.name}: {told(layout)}, {usage.usable}, {usage.positions}, idle {idle.free}"
        yield f" mended {told(layout.mended)} now {now.free} {now.cpu_free_millis} {now.host_free_mebibytes}"
    for key in (RACK, ZONE, "nowhere"):
        of_node, members = pool.topology.domains(key)
        sums = pool.topology.sums(key, pool.ranks_per_node(pool.shape(Request())))
        yield f"{key}: {of_node.tolist()} {members} {sums.tolist()}"
    yield f"data on {[pool.topology.holders(name) for name in (*CACHED, 'none')]}"


def _of_shape(pool: Pool, shape: Shape) -> Iterator[str]:
    """What it is, and what each node would give it."""
    request = shape.request
    yield f"{told(request)}, {shape.models and sorted(shape.models)}: as {told(shape.amount.request)}"
    yield f" {[question.says(request) for question in FILTERS]} {totals(request)}"
    served = [(kind.models, kind.taints, shape.may_serve(kind)) for kind in pool.states.kinds]
    yield f" {served} {shape.cpu_millis} {shape.host_mebibytes} {shape.takes_devices}"
    yield f" takes {[model for model in (*MODELS, ('cpu', 'cpu')) if accepts(model, request)]}"
    for usage, state in zip(pool.usage, pool.state_of, strict=True):
        layout, now = usage.layout, pool.states.all[state]
        passed, last = refusal(layout.groups, request)
        counts = [count_for(group, request) for group in layout.groups]
        best = pool.option(shape, now)
        refused = last and last.code, untolerated(layout.taints, request)
        yield f" {usage.view.name}: {counts} {passed} {refused}"
        yield f"  {shape.demands(layout)} {ranks_in(now, shape)} {shortfall_millis(now, shape)}"
        yield f"  best {best and _option(best)}"
        for demand, picks in options(now, shape):
            taken = islands_used(picks), millis_taken(demand, shape)
            yield f"  or {demand and demand.group} {picks} {taken}"


def _of_prices(pool: Pool, request: Request) -> Iterator[str]:
    """What it costs those who have to be there."""
    scarce = pool.scarcity
    yield f" prices {told(scarce.prices)} for {sorted(scarce.counts(request).items())}"
    for one in scarce.classes.all:
        counts = [one.count(request, cpu) for cpu in (0, 1000, 4000, 9000)]
        yield f"  {one.number} {one.model} {one.devices} {told(one.cpu_millis)} {len(one.seen)} {counts}"
    for usage in pool.usage:
        for group in usage.layout.groups:
            own = scarce.classes.of(group, usage.layout)
            cost, devices = (ask(group, usage.layout, request) for ask in (scarce.cost, scarce.devices))
            dearer = [
                told(scarce.dearer(group, usage.layout, request, margin)) for margin in (0.0, 0.25, -2.0)
            ]
            yield f"  {usage.view.name} {group.model}: {own and own.number} {told((cost, devices))} {dearer}"


def mix_answers(seed: int) -> Iterator[str]:
    """What a mix strands, wastes and wants on drawn capacities."""
    rng = random.Random(seed)
    mix: Fragmentation = small_mix(rng)
    yield f"usual: {told(mix.tasks)} asked {told(mix.asked)}"
    for _ in range(6):
        model, cpu = rng.choice(("big", "small", "ring")), rng.choice((0, 500, 1000, 2500))
        free = tuple(rng.choice((0, 250, 500, 1000, 1000)) for _ in range(rng.randrange(1, 5)))
        less = tuple(max(0, one - rng.choice((0, 0, 500))) for one in free)
        left, node = max(0, cpu - rng.choice((0, 500))), (rng.choice((0, 4000)), len(free))
        score = mix.score(model, (cpu, free), (left, less), node)
        yield f"{model} {cpu} {free}: {told((mix.stranded_millis(model, cpu, free), score))}"
        yield f" {told((mix.wasted_millis(model, cpu, free), mix.wasted_millis(model, 1 << 62, less)))}"
