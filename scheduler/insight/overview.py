"""The pool at one moment, in numbers: devices per model, nodes, and the workloads that hold most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common.resources import Node, Workload
from common.resources.pool import Device
from scheduler.core.model.types import WHOLE_MILLIS, NodeView, Request, RunningView, WorkloadView
from scheduler.core.pool.layout import MEMORY_BITS, ModelKey
from scheduler.core.pool.pool import Pool
from scheduler.core.pool.states import NodeState, Shape, ranks_in
from scheduler.core.pool.usage import NodeUsage
from scheduler.insight.answers import DeviceBar, NodeCondition, NodeRow, NodeTotals, PoolRow, WorkloadRow
from scheduler.insight.outlook import Outlook

USUAL_REQUESTS = 32
"""Kinds of requests by which it is judged what is stranded: the most frequent of those that wait, else of
those that run."""


@dataclass
class _Sum:
    """One model of devices, being added up."""

    row: PoolRow
    nodes: set[str] = field(default_factory=set)
    utilisation: list[int] = field(default_factory=list)
    memory_used: list[int] = field(default_factory=list)
    watts: list[int] = field(default_factory=list)

    def add(self, node: str, device: Device, usable: bool, used_millis: int) -> None:
        row, capacity = self.row, device.slots * WHOLE_MILLIS
        self.nodes.add(node)
        row.devices += 1
        row.capacity_millis += capacity
        row.memory_bytes += device.memory_bytes
        row.allocated_millis += used_millis
        if not device.healthy:
            row.unhealthy += 1
        elif not usable:
            row.unavailable += 1
        else:
            row.idle_millis += capacity - used_millis
        for values, value in (
            (self.utilisation, device.utilisation_percent),
            (self.memory_used, device.memory_used_bytes),
            (self.watts, device.power_watts),
        ):
            if usable and value is not None:
                values.append(value)

    def finish(self) -> PoolRow:
        row = self.row
        row.nodes = len(self.nodes)
        if self.utilisation:
            row.utilisation_percent = round(sum(self.utilisation) / len(self.utilisation))
        row.memory_used_bytes = sum(self.memory_used) if self.memory_used else None
        row.power_watts = sum(self.watts) if self.watts else None
        return row


def pool_rows(pool: Pool, nodes: Mapping[str, Node]) -> list[PoolRow]:
    """One row per model, by vendor and name. ``nodes``: as the store has them, for their load."""
    sums: dict[ModelKey, _Sum] = {}
    for usage in pool.usage:
        node = nodes[usage.view.name]
        for device, used in zip(node.status.devices, _used(usage), strict=True):
            key = (device.vendor, device.model)
            if key not in sums:
                sums[key] = _Sum(PoolRow(vendor=device.vendor, model=device.model))
            sums[key].add(node.name, device, usage.usable, used)
    return [sums[key].finish() for key in sorted(sums)]


def _used(usage: NodeUsage) -> list[int]:
    """Millis of each device that are held."""
    return [
        min(used >> MEMORY_BITS, capacity >> MEMORY_BITS)
        for used, capacity in zip(usage.used, usage.capacity, strict=True)
    ]


def node_rows(
    pool: Pool, nodes: Mapping[str, Node], requests: Sequence[Request], limit: int
) -> tuple[list[NodeRow], NodeTotals]:
    """The nodes with the most stranded, then the most used capacity, at most ``limit``; and the sums over
    all. ``requests``: what usually comes."""
    shapes = [pool.shape(request) for request in requests]
    judged: dict[int, tuple[int, int]] = {}
    ranked: list[tuple[int, int, str, int]] = []
    totals = NodeTotals(nodes=len(pool.usage))
    for number, usage in enumerate(pool.usage):
        state = pool.states.all[pool.state_of[number]]
        if state.number not in judged:
            judged[state.number] = _free_and_stranded(pool, state, shapes)
        free, stranded = judged[state.number] if usage.usable else (0, 0)
        totals.ready += usage.usable
        totals.free_millis += free
        totals.stranded_millis += stranded
        ranked.append((-stranded, -sum(_used(usage)), usage.view.name, number))
    rows = []
    for _, _, name, number in sorted(ranked)[:limit]:
        usage = pool.usage[number]
        free, stranded = judged[pool.state_of[number]] if usage.usable else (0, 0)
        rows.append(_node_row(nodes[name], usage, free, stranded))
    return rows, totals


def _free_and_stranded(pool: Pool, state: NodeState, shapes: Iterable[Shape]) -> tuple[int, int]:
    """Free millis of a node in this state, and how many of them the request that could use most leaves."""
    free = sum(sum(state.free_millis(group)) for group in range(len(state.layout.groups)))
    usable = [_usable(state, shape) for shape in shapes if free and pool.option(shape, state) is not None]
    return free, free - min(free, max(usable, default=0)) if shapes else 0


def _usable(state: NodeState, shape: Shape) -> int:
    demands = shape.demands(state.layout)
    millis = max((demand.grants * (demand.packed >> MEMORY_BITS) for demand in demands), default=0)
    return ranks_in(state, shape) * millis


def usual_requests(pending: Iterable[WorkloadView], running: Iterable[RunningView]) -> list[Request]:
    """What is asked for most often, by ranks: of what waits, or, where nothing waits, of what runs."""
    for workloads in (pending, [view.workload for view in running]):
        counts: Counter[Request] = Counter()
        for workload in workloads:
            for role in workload.roles:
                if role.request.count or role.request.by_equivalence:
                    counts[role.request] += role.replicas
        if counts:
            return [request for request, _ in counts.most_common(USUAL_REQUESTS)]
    return []


def _node_row(node: Node, usage: NodeUsage, free: int, stranded: int) -> NodeRow:
    kinds = Counter(f"{device.vendor}/{device.model}" for device in node.status.devices)
    used = _used(usage)
    return NodeRow(
        name=node.name,
        state=_condition(node, usage.view),
        models=[f"{count}x {kind}" for kind, count in sorted(kinds.items())],
        capacity_millis=sum(device.capacity_millis for device in usage.view.devices),
        free_millis=free,
        stranded_millis=stranded,
        devices=[
            DeviceBar(
                index=device.index,
                held_percent=round(100 * millis / (device.slots * WHOLE_MILLIS)),
                utilisation_percent=device.utilisation_percent,
                healthy=device.healthy,
            )
            for device, millis in zip(node.status.devices, used, strict=True)
        ],
    )


def _condition(node: Node, view: NodeView) -> NodeCondition:
    if not view.alive:
        return "Silent" if node.status.is_true("Ready") else "Lost"
    if node.spec.drain:
        return "Draining"
    if view.cordoned:
        return "Cordoned"
    return "Probation" if view.flapping_until_ms else "Ready"


def workload_rows(running: Iterable[RunningView], outlook: Outlook) -> list[WorkloadRow]:
    """What holds devices, the most devices first."""
    workloads = outlook.world.workloads
    rows = [
        _workload_row(view, workloads[view.workload.uid], outlook)
        for view in running
        if view.workload.uid in workloads
    ]
    return sorted(rows, key=lambda row: (-row.millis, row.since_ms, row.project, row.name))


def _workload_row(view: RunningView, workload: Workload, outlook: Outlook) -> WorkloadRow:
    shares = [share for assignment in view.placement for share in assignment.shares]
    return WorkloadRow(
        project=view.workload.project,
        name=view.workload.name,
        queue=view.workload.queue,
        phase=workload.status.phase,
        ranks=len(view.placement),
        millis=sum(share.millis for share in shares),
        models=sorted({f"{share.vendor}/{share.model}" for share in shares}),
        nodes=len({assignment.node for assignment in view.placement}),
        since_ms=view.started_ms,
        expected_end_ms=outlook.end_ms(view),
        end_predicted=view.workload.uid in outlook.predictions,
    )
