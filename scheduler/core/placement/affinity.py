"""Which workloads are where, by their labels: for affinity and anti-affinity between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from scheduler.core.model.types import Labels, Placement, WorkloadView


class AffinityIndex:
    """Counts per label pair the nodes that its workloads are on, and those that workloads with ``apart`` keep
    from others."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], Counter[str]] = {}
        self._refused: dict[tuple[str, str], Counter[str]] = {}

    def add(self, workload: WorkloadView, placement: Placement) -> None:
        self._count(workload, placement, 1)

    def remove(self, workload: WorkloadView, placement: Placement) -> None:
        self._count(workload, placement, -1)

    def _count(self, workload: WorkloadView, placement: Placement, sign: int) -> None:
        nodes = {assignment.node for assignment in placement}
        for table, pairs in ((self._at, workload.labels), (self._refused, workload.affinity.apart)):
            for pair in pairs:
                counter = table.setdefault(pair, Counter())
                for node in nodes:
                    counter[node] += sign

    def near(self, pairs: Labels) -> set[str]:
        """Nodes with a workload that has any of the labels."""
        return _nodes(self._at, pairs)

    def beside(self, workload: WorkloadView) -> set[str] | None:
        """The nodes that it may use: on each there is, for each label that it must be beside, a workload that
        has it. Labels that it has itself count once somebody is there. None = all nodes."""
        found: set[str] | None = None
        for pair in workload.affinity.beside:
            nodes = _nodes(self._at, (pair,))
            if nodes or pair not in workload.labels:
                found = nodes if found is None else found & nodes
        return found

    def closed_to(self, workload: WorkloadView) -> set[str]:
        """Nodes that it must not use: it wants to be apart from those there, or they from it."""
        return _nodes(self._at, workload.affinity.apart) | _nodes(self._refused, workload.labels)


def has_wishes(workload: WorkloadView) -> bool:
    """Whether it matters who else is on its nodes."""
    affinity = workload.affinity
    return bool(workload.labels or affinity.near or affinity.apart or affinity.beside)


def _nodes(table: dict[tuple[str, str], Counter[str]], pairs: Iterable[tuple[str, str]]) -> set[str]:
    return {node for pair in pairs for node, count in table.get(pair, Counter[str]()).items() if count > 0}
