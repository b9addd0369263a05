"""What each node says to a request: that it takes it now, or what keeps it from that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.units import format_bytes
from scheduler.core.model.types import WHOLE_MILLIS, Labels, NodeView
from scheduler.core.pool.filters import refusal, untolerated
from scheduler.core.pool.layout import MEMORY_MASK, Layout
from scheduler.core.pool.options import host_has_room, options
from scheduler.core.pool.pool import Pool
from scheduler.core.pool.states import NodeState, Shape, States, grants_in


class Verdict(NamedTuple):
    """``code`` is empty where the node takes a rank now. ``best``: the largest number of devices found, all
    of them for DeviceCount and the free ones for DevicesBusy. ``could``: an idle, healthy node would take
    it."""

    code: str = ""
    message: str = ""
    best: int = 0
    could: bool = True


@dataclass(frozen=True)
class Tally:
    """A verdict and the number of nodes that give it."""

    verdict: Verdict
    nodes: int


@dataclass(frozen=True)
class _Kind:
    """What is the same for all nodes of a layout: whether a healthy idle one takes a rank, why one as it is
    never does, the devices that a rank needs and those that there are."""

    could: bool
    refusal: Verdict | None
    needed: int = 0
    total: int = 0


class Crowd:
    """Listed nodes of one layout, by state. ``said``: what they say, by the number of the shape;
    ``changes``: those of their kind when they were counted."""

    __slots__ = ("changes", "layout", "nodes", "said", "states")

    def __init__(self, layout: Layout, changes: int) -> None:
        self.layout = layout
        self.changes = changes
        self.nodes = 0
        self.states: list[tuple[NodeState, int]] = []
        self.said: dict[int, tuple[tuple[Verdict, int], ...]] = {}


class Census:
    """How many nodes are in which state, as of a ``version`` of the pool. ``unlisted``: those that are not
    given out, by state and by what keeps them from that (empty = they are held for somebody). What ``before``
    has counted of kinds of nodes that have not changed since is taken over."""

    def __init__(self, pool: Pool, before: Census | None = None) -> None:
        self.version = version_of(pool)
        states, crowds = pool.states.all, dict[int, Crowd]()
        for known in before.listed if before is not None else ():
            if known.changes == known.states[0][0].kind.changes:
                crowds[id(known.layout)] = known
        kept = frozenset(crowds)
        listed = np.frombuffer(pool.listed, dtype=np.uint8) > 0
        counts = np.bincount(np.frombuffer(pool.state_of, dtype=np.int32)[listed])
        for number in np.flatnonzero(counts).tolist():
            state = states[number]
            key = id(state.layout)
            if key not in kept:
                nodes, crowd = int(counts[number]), crowds.get(key)
                if crowd is None:
                    crowd = crowds[key] = Crowd(state.layout, state.kind.changes)
                crowd.states.append((state, nodes))
                crowd.nodes += nodes
        self.listed: list[Crowd] = sorted(crowds.values(), key=lambda crowd: crowd.states[0][0].number)
        self.unlisted = Counter(
            (states[pool.state_of[number]], *_absence(pool.view(number)))
            for number in np.flatnonzero(~listed).tolist()
        )


def version_of(pool: Pool) -> tuple[int, int]:
    """Another one whenever a node has changed its state, or has been listed or not."""
    kinds = pool.states.kinds
    return len(kinds), sum(kind.changes for kind in kinds)


def _alike(shape: Shape, layout: Layout) -> Shape:
    """The shape that such nodes answer as they answer this one, once they take what it accepts."""
    return shape.amount if len(layout.groups) == 1 else shape


class Verdicts:
    """Asks nodes by kind and state, and remembers. Kept with the pool (``Pool.once``)."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._kinds: dict[tuple[int, int], _Kind] = {}
        self._present: dict[tuple[int, int], Verdict] = {}
        self._census = Census(pool)

    def tally(self, shape: Shape) -> list[Tally]:
        """All verdicts on a rank of this shape, in a fixed order."""
        found: dict[Verdict, int] = {}
        for said, nodes in self._say(shape):
            found[said] = found.get(said, 0) + nodes
        return [
            Tally(verdict, found[verdict]) for verdict in sorted(found, key=lambda v: (v.code, v.message))
        ]

    def _say(self, shape: Shape) -> Iterator[tuple[Verdict, int]]:
        """What so many nodes say."""
        census = self._census
        if census.version != version_of(self._pool):
            census = self._census = Census(self._pool, census)
        for crowd in census.listed:
            refused = self._kind(crowd.layout, shape).refusal
            if refused is None:
                yield from self._by_state(crowd, shape)
            else:
                yield refused, crowd.nodes
        for (state, code, message), nodes in census.unlisted.items():
            yield self._of_unlisted(state, code, message, shape), nodes

    def _by_state(self, crowd: Crowd, shape: Shape) -> Sequence[tuple[Verdict, int]]:
        """What they say now, were they idle or not; shapes that only differ in what they accept are told the
        same."""
        alike = _alike(shape, crowd.layout)
        if alike.number not in crowd.said:
            found: dict[Verdict, int] = {}
            for state, nodes in crowd.states:
                verdict = self._at_present(state, shape)
                found[verdict] = found.get(verdict, 0) + nodes
            crowd.said[alike.number] = tuple(found.items())
        return crowd.said[alike.number]

    def _of_unlisted(self, state: NodeState, code: str, message: str, shape: Shape) -> Verdict:
        kind = self._kind(state.layout, shape)
        if code:
            return Verdict(code, message, could=kind.could)
        if self._pool.option(shape, state) is not None:
            return Verdict("NodeReserved", "it is held for a workload that comes first")
        return kind.refusal or self._at_present(state, shape)

    def _at_present(self, state: NodeState, shape: Shape) -> Verdict:
        """For a node that would take a rank if nothing else were on it."""
        key = (_alike(shape, state.layout).number, state.number)
        known = self._present.get(key)
        if known is None:
            known = self._present[key] = self._look_at(state, shape)
        return known

    def _look_at(self, state: NodeState, shape: Shape) -> Verdict:
        if self._pool.option(shape, state) is not None:
            return Verdict()
        kind = self._kind(state.layout, shape)
        if not host_has_room(state, shape):
            return Verdict("HostBusy", f"needs {_host(shape)} free on the host", could=kind.could)
        need, free = _need(shape, kind.needed), _most(state, shape)
        if free >= kind.needed:
            message = f"{need} that its vendor links; {free} are free but not together"
            return Verdict("TopologyBusy", message, free, kind.could)
        wanted = shape.request.memory_bytes
        memory = f" with {format_bytes(wanted)} free" if wanted else ""
        return Verdict("DevicesBusy", f"{need}{memory}, at most {free} free", free, kind.could)

    def _kind(self, layout: Layout, shape: Shape) -> _Kind:
        key = (id(layout), shape.number)
        if key not in self._kinds:
            self._kinds[key] = self._judge_kind(layout, shape)
        return self._kinds[key]

    def _judge_kind(self, layout: Layout, shape: Shape) -> _Kind:
        states, request = self._pool.states, shape.request
        idle = states.idle(layout)
        could = _takes(states.idle(states.mended(layout)), shape)
        needed = max((demand.grants for demand in shape.demands(layout)), default=request.count)
        total = _most(idle, shape)
        refused = _refusal(states, layout, shape, could)
        if refused is None and not host_has_room(idle, shape):
            refused = Verdict("HostTooSmall", f"its host has less than {_host(shape)}", could=False)
        if refused is None and not _takes(idle, shape):
            refused = _too_few(_need(shape, needed), total, needed, could)
        return _Kind(could, refused, needed, total)


def _too_few(need: str, total: int, needed: int, could: bool) -> Verdict:
    if could and total >= needed:
        message = f"{need} that its vendor links; {total} are healthy but not together"
        return Verdict("DeviceUnhealthy", message, total, could)
    return Verdict("DeviceCount", f"{need}, it has {total}", total, could)


def _takes(state: NodeState, shape: Shape) -> bool:
    return next(iter(options(state, shape)), None) is not None


def _absence(node: NodeView) -> tuple[str, str]:
    if not node.alive:
        return "NodeLost", "the node does not answer"
    if node.cordoned:
        return "NodeCordoned", "the node is draining" if node.draining else "the node is cordoned"
    if node.flapping_until_ms:
        return "NodeFlapping", "the node came and went too often and is on probation"
    return "", ""


def _refusal(states: States, layout: Layout, shape: Shape, could: bool) -> Verdict | None:
    """Which filter leaves nothing of this kind of node."""
    request = shape.request
    if not set(request.node_labels) <= set(layout.labels):
        wanted = _pairs(request.node_labels)
        return Verdict("NodeLabels", f"it lacks the labels {wanted}", could=False)
    refused = untolerated(layout.taints, request)
    if refused:
        return Verdict("NodeTaints", f"it refuses who does not tolerate {_pairs(refused)}", could=False)
    if not request.count and not request.by_equivalence:
        return None
    indexes, question = refusal(layout.groups, request)
    if question is not None:
        if refusal(states.mended(layout).groups, request)[1] is None:
            return Verdict("DeviceUnhealthy", "every matching device is unhealthy", could=could)
        return Verdict(question.code, question.says(request), could=False)
    if shape.models is not None and not any(layout.groups[i].key in shape.models for i in indexes):
        return Verdict("QuotaModels", "the queue's quota leaves none of its models", could=False)
    return None


def _pairs(pairs: Labels) -> str:
    return ", ".join(f"{key}={value}" for key, value in pairs)


def _host(shape: Shape) -> str:
    parts = [f"{shape.cpu_millis / 1000:g} CPU cores"] if shape.cpu_millis else []
    if shape.host_mebibytes:
        parts.append(f"{format_bytes(shape.request.host_memory_bytes)} of memory")
    return " and ".join(parts)


def _need(shape: Shape, count: int) -> str:
    if shape.request.share_millis < WHOLE_MILLIS:
        return f"needs {shape.request.share_millis / 10:g} % of a device"
    return f"needs {count} {'device' if count == 1 else 'devices'} on one node"


def _most(state: NodeState, shape: Shape) -> int:
    """The most grants that one group could give, wherever its devices are."""
    most = 0
    for demand in shape.demands(state.layout):
        packed = demand.packed & ~MEMORY_MASK if demand.whole else demand.packed
        islands = state.free[demand.group]
        most = max(most, sum(grants_in(entry, packed) for island in islands for entry in island))
    return most
