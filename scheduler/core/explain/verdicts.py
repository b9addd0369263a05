"""What each node says to a request: that it takes it now, or what keeps it from that."""

from __future__ import annotations

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


class Verdicts:
    """Asks nodes by kind and state, and remembers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._kinds: dict[tuple[int, int], _Kind] = {}
        self._present: dict[tuple[int, int], Verdict] = {}

    def tally(self, shape: Shape) -> list[Tally]:
        """All verdicts on a rank of this shape, in a fixed order."""
        pool = self._pool
        listed = np.frombuffer(pool.listed, dtype=np.uint8) > 0
        counts = np.bincount(np.frombuffer(pool.state_of, dtype=np.int32)[listed])
        found: dict[Verdict, int] = {}
        refused: dict[int, tuple[Verdict | None, int]] = {}
        for number in np.flatnonzero(counts).tolist():
            state, nodes = pool.states.all[number], int(counts[number])
            layout = id(state.layout)
            known = refused.get(layout)
            if known is None:
                known = self._kind(state.layout, shape).refusal, 0
            refused[layout] = known[0], known[1] + nodes
            if known[0] is None:
                verdict = self._at_present(state, shape)
                found[verdict] = found.get(verdict, 0) + nodes
        for why, nodes in refused.values():
            if why is not None:
                found[why] = found.get(why, 0) + nodes
        for number in np.flatnonzero(~listed).tolist():
            verdict = self._of_unlisted(number, shape)
            found[verdict] = found.get(verdict, 0) + 1
        return [
            Tally(verdict, found[verdict]) for verdict in sorted(found, key=lambda v: (v.code, v.message))
        ]

    def _of_unlisted(self, number: int, shape: Shape) -> Verdict:
        pool = self._pool
        could = self._kind(pool.usage[number].layout, shape).could
        code, message = _absence(pool.view(number))
        if code:
            return Verdict(code, message, could=could)
        state = pool.states.all[pool.state_of[number]]
        if pool.option(shape, state) is not None:
            return Verdict("NodeReserved", "it is held for a workload that comes first")
        return self.of_state(state, shape)

    def of_state(self, state: NodeState, shape: Shape) -> Verdict:
        """For a node that may be used."""
        return self._kind(state.layout, shape).refusal or self._at_present(state, shape)

    def _at_present(self, state: NodeState, shape: Shape) -> Verdict:
        """For a node that would take a rank if nothing else were on it. Shapes that only differ in what they
        accept are told the same."""
        alike = shape.amount if len(state.layout.groups) == 1 else shape
        key = (alike.number, state.number)
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
        return "NodeCordoned", "the node is cordoned"
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
