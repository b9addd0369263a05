"""What a rank could take of a node in a given state: which devices of which group, and what is left then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from scheduler.core.model.types import WHOLE_MILLIS
from scheduler.core.pool.layout import Group
from scheduler.core.pool.states import Demand, Free, NodeState, Shape, States, grants_in


class Pick(NamedTuple):
    """``grants`` grants of one device of this island that has ``entry`` (packed) free."""

    island: int
    entry: int
    grants: int


class Option(NamedTuple):
    """One way to serve a rank. ``demand`` is None for a rank without devices."""

    demand: Demand | None
    picks: tuple[Pick, ...]
    after: NodeState
    score: int


Judge = Callable[[NodeState, NodeState, "Demand | None", tuple[Pick, ...], Shape], int]
"""(before, after, demand, picks, shape) -> score; higher is better."""


def best_option(states: States, state: NodeState, shape: Shape, judge: Judge) -> Option | None:
    """The option with the highest score; among equals the first, so that equal input gives equal output."""
    best: Option | None = None
    for demand, picks in options(state, shape):
        after = _after(states, state, shape, demand, picks)
        score = judge(state, after, demand, picks, shape)
        if best is None or score > best.score:
            best = Option(demand, picks, after, score)
    return best


def options(state: NodeState, shape: Shape) -> Iterator[tuple[Demand | None, tuple[Pick, ...]]]:
    """All that make a difference."""
    if not host_has_room(state, shape):
        return
    demands = shape.demands(state.layout)
    if not shape.takes_devices:
        if shape.is_let_in(state.layout):
            yield None, ()
        return
    for demand in demands:
        group, free = state.layout.groups[demand.group], state.free[demand.group]
        if demand.whole:
            picks = _whole(group, free, demand)
            if picks:
                yield demand, picks
        elif demand.grants == 1:
            for pick in _partial(free, demand):
                yield demand, (pick,)
        else:
            picks = _shared(free, demand)
            if picks:
                yield demand, picks


def host_has_room(state: NodeState, shape: Shape) -> bool:
    """Whether host CPU and memory suffice, where the node tells them."""
    cpu = not state.layout.cpu_millis or state.cpu_free_millis >= shape.cpu_millis
    return cpu and (not state.layout.host_mebibytes or state.host_free_mebibytes >= shape.host_mebibytes)


def _whole(group: Group, free: tuple[tuple[int, ...], ...], demand: Demand) -> tuple[Pick, ...]:
    counts = [island.count(demand.packed) for island in free]
    if sum(counts) < demand.grants:
        return ()
    chosen = choose_islands(counts, group, demand.grants)
    return tuple(Pick(island, demand.packed, 1) for island, taken in chosen for _ in range(taken))


def choose_islands(free: list[int], group: Group, count: int) -> list[tuple[int, int]]:
    """(island, devices) for ``count`` whole devices, where each island has so many ``free``; empty = not as
    the vendor's rule wants it.

    The smallest island that suffices, so that large ones stay whole. Where none does: evenly over rings where
    the rule says so, else the fullest islands first.
    """
    rule, sizes = group.spec.rule, group.islands
    if rule.pair_size > 1 and count % rule.pair_size == 0:
        whole = [i for i, n in enumerate(free) if n == sizes[i] >= rule.pair_size]
        taken = [(i, sizes[i]) for i in whole][: count // rule.pair_size]
        return taken if sum(n for _, n in taken) == count else []
    inside = [(n, i) for i, n in enumerate(free) if n >= count]
    if inside:
        return [(min(inside)[1], count)]
    if rule.island_rule in ("inside", "even"):
        return _evenly(free, group.ring, count)
    chosen, left = [], count
    for n, i in sorted(((n, -i) for i, n in enumerate(free)), reverse=True):
        if left and n:
            chosen.append((-i, min(n, left)))
            left -= min(n, left)
    return chosen


def _evenly(free: list[int], ring: int, count: int) -> list[tuple[int, int]]:
    if count <= ring:
        return []
    rings = -(-count // ring)
    if count % rings:
        return []
    able = sorted((n, i) for i, n in enumerate(free) if n >= count // rings)[:rings]
    return [(i, count // rings) for _, i in able] if len(able) == rings else []


def _partial(free: tuple[tuple[int, ...], ...], demand: Demand) -> Iterator[Pick]:
    for island, entries in enumerate(free):
        for entry in sorted(set(entries)):
            if grants_in(entry, demand.packed):
                yield Pick(island, entry, 1)


def _shared(free: tuple[tuple[int, ...], ...], demand: Demand) -> tuple[Pick, ...]:
    """Several grants, fullest device first."""
    left, picks = demand.grants, []
    able = [(grants_in(e, demand.packed), island, e) for island, es in enumerate(free) for e in es]
    for room, island, entry in sorted(item for item in able if item[0]):
        taken = min(room, left)
        if taken:
            picks.append(Pick(island, entry, taken))
            left -= taken
    return () if left else tuple(picks)


def _after(
    states: States, state: NodeState, shape: Shape, demand: Demand | None, picks: tuple[Pick, ...]
) -> NodeState:
    free: Free = state.free
    if demand is not None:
        islands = [list(island) for island in free[demand.group]]
        for island, entry, grants in picks:
            islands[island].remove(entry)
            islands[island].append(entry - grants * demand.packed)
        changed = tuple([tuple(sorted(island)) for island in islands])
        free = (*free[: demand.group], changed, *free[demand.group + 1 :]) if len(free) > 1 else (changed,)
    cpu = state.cpu_free_millis - shape.cpu_millis if state.layout.cpu_millis else 0
    host = state.host_free_mebibytes - shape.host_mebibytes if state.layout.host_mebibytes else 0
    return states.intern(state.layout, free, cpu, host)


def islands_used(picks: tuple[Pick, ...]) -> int:
    """Over how many islands the devices are spread."""
    return len({pick.island for pick in picks}) if len(picks) > 1 else len(picks)


def millis_taken(demand: Demand | None, shape: Shape) -> int:
    """Of devices, all together."""
    return demand.grants * min(shape.request.share_millis, WHOLE_MILLIS) if demand else 0
