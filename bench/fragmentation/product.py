"""The product's scheduler on the trace: its pool, its placement and its default policy. What the trace does
not say (memory and speed of the GPU models) is not known to the scheduler either."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.traces import TraceNode, TraceTask
from common.units import MIB
from scheduler.core.fragmentation.fragmentation import Fragmentation
from scheduler.core.fragmentation.workload_mix import workload_mix_of
from scheduler.core.model.catalogue import Catalogue
from scheduler.core.model.types import (
    WHOLE_MILLIS,
    DeviceView,
    NodeView,
    Placement,
    Policy,
    Request,
    RoleView,
    WorkloadView,
)
from scheduler.core.placement.placing import Stuck, place_gang
from scheduler.core.pool.pool import Pool

POLICY = Policy()
QUEUE = "default"


class ProductCluster:
    """The nodes in the fixed order of a run. ``mix``: what the scheduler takes for usual; ``measure`` judges
    fragments."""

    def __init__(self, nodes: Sequence[TraceNode], mix: Fragmentation, measure: Fragmentation) -> None:
        self.pool = Pool([_node(number, node) for number, node in enumerate(nodes)], Catalogue())
        self.pool.use(POLICY, mix)
        self._measure = measure
        self._fragments = [self._stranded(number) for number in range(len(nodes))]
        self.used_millis = 0
        self.fragment_millis = sum(self._fragments)

    def offer(self, name: str, task: TraceTask) -> bool:
        """Place the task; False where it fits nowhere. ``name``: of this arrival."""
        placement = place_gang(workload_of(name, task), self.pool, POLICY)
        if isinstance(placement, Stuck):
            return False
        self.settle([placement], task.gpu_millis)
        return True

    def settle(self, changed: Iterable[Placement], more_used_millis: int = 0) -> None:
        """The pool has changed at these places, for good."""
        self.pool.commit()
        self.used_millis += more_used_millis
        for node in {rank.node for placement in changed for rank in placement}:
            number = self.pool.number(node)
            if number is not None:
                stranded = self._stranded(number)
                self.fragment_millis += stranded - self._fragments[number]
                self._fragments[number] = stranded

    def _stranded(self, number: int) -> float:
        state = self.pool.states.all[self.pool.state_of[number]]
        return sum(
            self._measure.stranded_millis(group.model, state.cpu_free_millis, state.free_millis(index))
            for index, group in enumerate(state.layout.groups)
        )


def usual_mix(tasks: Sequence[TraceTask]) -> Fragmentation:
    """What the scheduler takes for usual where it has seen all of the trace."""
    return workload_mix_of(workload_of(task.name, task) for task in tasks)


def workload_of(name: str, task: TraceTask, created_ms: int = 0) -> WorkloadView:
    """A task of the trace as the product sees it: one rank, without end, that lets itself be moved."""
    request = Request(
        count=task.count,
        share_millis=task.share_millis or WHOLE_MILLIS,
        models=task.models,
        cpu_millis=task.cpu_millis,
        host_memory_bytes=task.memory_mebibytes * MIB,
    )
    roles = (RoleView("main", 1, request),)
    return WorkloadView(name, "trace", name, QUEUE, 0, created_ms, roles, movable=True)


def _node(number: int, node: TraceNode) -> NodeView:
    """Its name begins with its place in the order."""
    name = f"{number:05d}-{node.name}"
    return NodeView(
        name,
        tuple(DeviceView(f"{name}/{gpu}", gpu, "nvidia", node.model, 0) for gpu in range(node.gpus)),
        cpu_millis=node.cpu_millis,
        host_memory_bytes=node.memory_mebibytes * MIB,
    )
