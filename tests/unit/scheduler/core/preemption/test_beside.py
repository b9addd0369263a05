"""Whether who stays still fits, and what is kept for who leaves, summed up device by device."""

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.model.types import Affinity, Assignment, NodeView, Placement
from scheduler.core.placement.residual import residual_capacity
from scheduler.core.pool.pool import Pool
from scheduler.core.preemption.beside import fits_beside, keep_apart, tolerates
from tests.unit.scheduler.build import workload
from tests.unit.scheduler.worlds import CATALOGUE, GIB, fill, make_world

Sums = Counter[tuple[str, str]]


def crowded(seed: int) -> tuple[list[NodeView], list[Placement]]:
    """Nodes with little host room, and placements that were made where there was more of it."""
    rng = random.Random(seed)
    world = make_world(rng, 3, 0.0, 1)
    roomy = tuple(
        replace(node, cpu_millis=10**6, host_memory_bytes=2**50, cordoned=False) for node in world.nodes
    )
    placements = [one.placement for one in fill(rng, replace(world, nodes=roomy), 1.5)]
    tight = [
        replace(
            node,
            cpu_millis=rng.choice((0, 2000, 4000, 6000)),
            host_memory_bytes=rng.choice((0, 16 * GIB, 32 * GIB, 48 * GIB)),
        )
        for node in roomy
    ]
    return tight, placements


def held(ranks: Placement) -> Sums:
    """What ranks hold of each device and host."""
    sums: Sums = Counter()
    for rank in ranks:
        sums[rank.node, "cpu"] += rank.cpu_millis
        sums[rank.node, "host"] += rank.host_memory_bytes
        for share in rank.shares:
            sums[share.device, "millis"] += share.millis
            sums[share.device, "memory"] += share.memory_bytes
    return sums


def room(nodes: list[NodeView]) -> Sums:
    """What there is; host room that is not counted is not in it."""
    sums: Sums = Counter()
    for node in nodes:
        for kind, amount in (("cpu", node.cpu_millis), ("host", node.host_memory_bytes)):
            if amount:
                sums[node.name, kind] = amount
        for device in node.devices:
            sums[device.id, "millis"] = device.capacity_millis
            sums[device.id, "memory"] = device.memory_bytes
    return sums


def fits(nodes: list[NodeView], there: Placement, more: Placement, looked_at: set[str]) -> bool:
    """The slow and obvious answer."""
    wanted = held(tuple(rank for rank in more if rank.node in looked_at))
    before, most = held(there), room(nodes)
    return all(not n or key not in most or before[key] + n <= most[key] for key, n in wanted.items())


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_ranks_fit_beside_others_where_all_sums_do(seed: int) -> None:
    nodes, placements = crowded(seed)
    rng = random.Random(seed)
    for _ in range(4):
        some = [one for one in placements if rng.random() < 0.5]
        there = tuple(rank for placement in some for rank in placement)
        more = rng.choice(placements) if placements else ()
        pool = Pool(nodes, CATALOGUE)
        fitting: list[Assignment] = []
        for rank in there:
            if fits(nodes, tuple(fitting), (rank,), {rank.node}):
                fitting.append(rank)
        pool.occupy(fitting)
        looked_at = {node.name for node in nodes if rng.random() < 0.7} | {"gone"}
        stranger = tuple(rank._replace(node="gone") for rank in more)
        assert fits_beside(pool, (*more, *stranger), looked_at) == fits(
            nodes, tuple(fitting), more, looked_at
        )


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_kept_is_what_leaves_beyond_what_comes(seed: int) -> None:
    _, placements = crowded(seed)
    rng = random.Random(seed)
    gone, come = (tuple(rank for one in placements for rank in one if rng.random() < 0.5) for _ in range(2))
    kept = residual_capacity(gone, come)
    assert {key: n for key, n in held(kept).items() if n} == {
        key: n for key, n in (held(gone) - held(come)).items() if n
    }
    assert len({rank.node for rank in kept}) == len(kept)
    assert all(rank.shares or rank.cpu_millis or rank.host_memory_bytes for rank in kept)
    assert all(share.millis or share.memory_bytes for rank in kept for share in rank.shares)


def test_apart_is_asked_of_both() -> None:
    plain, app = workload("plain"), workload("app", labels=(("app", "db"),))
    shy = workload("shy", affinity=Affinity(apart=(("app", "db"),)))
    assert [keep_apart(plain, app), keep_apart(shy, app), keep_apart(app, shy)] == [False, True, True]
    assert not keep_apart(shy, plain)
    place = Assignment("main", 0, 0, "n", ())
    pool = Pool([NodeView("n")], CATALOGUE)
    for one, other in ((shy, app), (app, shy)):
        assert not tolerates(pool, one, other, (place,), {"n"})
        assert tolerates(pool, one, other, (place,), {"m"})
    assert tolerates(pool, shy, plain, (place,), {"n"})
