"""What each node says to a request: that it takes it now, or what keeps it from that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.units import format_bytes
from scheduler.core.filters import refusal
from scheduler.core.layout import MEMORY_MASK, Layout
from scheduler.core.options import host_has_room, options
from scheduler.core.pool import Pool
from scheduler.core.states import NodeState, Shape, grants_in
from scheduler.core.types import WHOLE_MILLIS, NodeView


@dataclass(frozen=True)
class Verdict:
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


def tally(pool: Pool, shape: Shape) -> list[Tally]:
    """All verdicts on a rank of this shape, in a fixed order."""
    states = pool.states.all
    listed = np.frombuffer(pool.listed, dtype=np.uint8) > 0
    counts = np.bincount(np.frombuffer(pool.state_of, dtype=np.int32)[listed], minlength=0)
    found: dict[Verdict, int] = {}
    for number in np.flatnonzero(counts):
        verdict = judge_state(pool, states[number], shape)
        found[verdict] = found.get(verdict, 0) + int(counts[number])
    for number in np.flatnonzero(~listed):
        verdict = _judge_unlisted(pool, int(number), shape)
        found[verdict] = found.get(verdict, 0) + 1
    return [Tally(verdict, found[verdict]) for verdict in sorted(found, key=lambda v: (v.code, v.message))]


def _judge_unlisted(pool: Pool, number: int, shape: Shape) -> Verdict:
    could = _could(pool, pool.usage[number].layout, shape)
    code, message = _absence(pool.view(number))
    if code:
        return Verdict(code, message, could=could)
    if could:
        return Verdict("NodeReserved", "it is held for a workload that comes first", could=True)
    return judge_state(pool, pool.states.all[pool.state_of[number]], shape)


def _absence(node: NodeView) -> tuple[str, str]:
    if not node.alive:
        return "NodeLost", "the node does not answer"
    if node.cordoned:
        return "NodeCordoned", "the node is cordoned"
    if node.flapping_until_ms:
        return "NodeFlapping", "the node came and went too often and is on probation"
    return "", ""


def judge_state(pool: Pool, state: NodeState, shape: Shape) -> Verdict:
    """For a node that may be used."""
    if pool.option(shape, state) is not None:
        return Verdict()
    request, layout = shape.request, state.layout
    if not set(request.node_labels) <= set(layout.labels):
        wanted = ", ".join(f"{key}={value}" for key, value in request.node_labels)
        return Verdict("NodeLabels", f"it has not the labels {wanted}", could=False)
    could = _could(pool, layout, shape)
    if request.count or request.by_equivalence:
        indexes, question = refusal(layout.groups, request)
        if question is not None:
            if refusal(layout.mended.groups, request)[1] is None:
                return Verdict("DeviceUnhealthy", "every matching device is unhealthy", could=could)
            return Verdict(question.code, question.says(request), could=False)
        if shape.models is not None and not any(layout.groups[i].key in shape.models for i in indexes):
            return Verdict("QuotaModels", "the queue's quota leaves none of its models", could=False)
    if not host_has_room(pool.states.idle(layout), shape):
        return Verdict("HostTooSmall", f"its host has less than {_host(shape)}", could=False)
    return _count(pool, state, shape, could)


def _could(pool: Pool, layout: Layout, shape: Shape) -> bool:
    idle = pool.states.idle(pool.states.layout(layout.mended))
    return next(iter(options(idle, shape)), None) is not None


def _host(shape: Shape) -> str:
    parts = [f"{shape.cpu_millis / 1000:g} CPU cores"] if shape.cpu_millis else []
    if shape.host_mebibytes:
        parts.append(f"{format_bytes(shape.request.host_memory_bytes)} of memory")
    return " and ".join(parts)


def _count(pool: Pool, state: NodeState, shape: Shape, could: bool) -> Verdict:
    request, idle = shape.request, pool.states.idle(state.layout)
    need_count = max((d.grants for d in shape.demands(state.layout)), default=request.count)
    need = _need(shape, need_count)
    total, free = _most(idle, shape), _most(state, shape)
    if next(iter(options(idle, shape)), None) is None:
        return Verdict("DeviceCount", f"{need}, it has {total}", total, could)
    if not host_has_room(state, shape):
        return Verdict("HostBusy", f"needs {_host(shape)} free on the host", could=could)
    if free >= need_count:
        return Verdict(
            "TopologyBusy", f"{need} that its vendor links; {free} are free but not together", free, could
        )
    memory = f" with {format_bytes(request.memory_bytes)} free" if request.memory_bytes else ""
    return Verdict("DevicesBusy", f"{need}{memory}, at most {free} free", free, could)


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
