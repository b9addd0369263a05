"""How much of the GPUs any packing can give out: a linear program that every packing satisfies.

For each shape of node (CPU, memory, GPUs, and the model where tasks ask for one) the variables are how many
tasks of each type run on nodes of that shape, and how many GPUs are cut by each pattern of shares (a
multiset of shares that fits on one GPU and that no other share could be added to). Tasks of a shape
together may not take more CPU, memory or GPUs than its nodes have together, shares must be covered by
patterns, and no type may run more often than it arrived.

Why it is a bound: take any placement of any part of the tasks that arrived, in any order, with or without
moving. Count its tasks per shape and type, and for each GPU that is shared take the pattern that its shares
are a part of. These counts satisfy all constraints, because each node satisfies its own and the constraints
are their sums. So the best value of the program is at least what that placement gives out. The program may
cut tasks and nodes into fractions and may leave out any task, which only makes it larger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from bench.traces import TraceNode, TraceTask
from common.errors import ComputilityError
from scheduler.core.model.types import WHOLE_MILLIS

Pattern = tuple[int, ...]


class _Program:
    """Rows (at most so much) and columns (value, coefficients) as they come."""

    def __init__(self) -> None:
        self.limits: list[float] = []
        self.values: list[float] = []
        self._rows: list[int] = []
        self._columns: list[int] = []
        self._entries: list[float] = []

    def row(self, limit: float) -> int:
        self.limits.append(limit)
        return len(self.limits) - 1

    def column(self, value: float, entries: Iterable[tuple[int, float]]) -> None:
        number = len(self.values)
        self.values.append(value)
        for row, entry in entries:
            if entry:
                self._rows.append(row)
                self._columns.append(number)
                self._entries.append(entry)

    def solve(self) -> float:
        if not self.values:
            return 0.0
        shape = (len(self.limits), len(self.values))
        matrix = coo_array((self._entries, (self._rows, self._columns)), shape=shape).tocsr()
        solution = linprog(-np.array(self.values), A_ub=matrix, b_ub=np.array(self.limits), method="highs")
        if solution.status != 0:
            raise ComputilityError(f"the linear program was not solved: {solution.message}", code="no_bound")
        return float(-solution.fun)


def most_used_millis(
    nodes: Sequence[TraceNode], tasks: Sequence[TraceTask], running: Sequence[TraceTask] = ()
) -> float:
    """The most GPU millis that these tasks can hold on these nodes together. ``running``: those of them
    that may not be left out, wherever they are."""
    by_model = any(task.models for task in tasks)
    shapes = Counter(
        (node.cpu_millis, node.memory_mebibytes, node.gpus, node.model if by_model else "") for node in nodes
    )
    kept = Counter(_type(task) for task in running)
    types = {kind: number for kind, number in Counter(map(_type, tasks)).items() if kind.gpus or kind in kept}
    sizes = sorted({kind.share_millis for kind in types if _shared(kind)}, reverse=True)
    patterns = cuts(sizes)
    program = _Program()
    demands = [(program.row(number), program.row(-kept[kind])) for kind, number in types.items()]
    for (cpu, memory, gpus, model), number in shapes.items():
        cpus, memories, devices = (program.row(number * amount) for amount in (cpu, memory, gpus))
        shares = {size: program.row(0) for size in sizes}
        for kind, (at_most, at_least) in zip(types, demands, strict=True):
            if kind.cpu_millis > cpu or kind.memory_mebibytes > memory or kind.gpus > gpus:
                continue
            if kind.models and model not in kind.models:
                continue
            device = (shares[kind.share_millis], 1.0) if _shared(kind) else (devices, kind.gpus)
            takes = ((cpus, kind.cpu_millis), (memories, kind.memory_mebibytes), device)
            program.column(kind.gpus * kind.share_millis, ((at_most, 1.0), (at_least, -1.0), *takes))
        for pattern in patterns:
            cut = ((shares[size], -times) for size, times in zip(sizes, pattern, strict=True))
            program.column(0.0, ((devices, 1.0), *cut))
    return program.solve()


class _Type(NamedTuple):
    cpu_millis: int
    memory_mebibytes: int
    gpus: int
    share_millis: int
    models: tuple[str, ...]


def _type(task: TraceTask) -> _Type:
    return _Type(task.cpu_millis, task.memory_mebibytes, task.count, task.share_millis, task.models)


def _shared(kind: _Type) -> bool:
    return 0 < kind.share_millis < WHOLE_MILLIS


def cuts(sizes: Sequence[int], left: int = WHOLE_MILLIS) -> list[Pattern]:
    """How often each size (descending) may be cut out of one GPU, so that the smallest fits no more."""
    if not sizes:
        return []
    if len(sizes) == 1:
        return [(left // sizes[0],)]
    return [
        (times, *rest)
        for times in range(left // sizes[0], -1, -1)
        for rest in cuts(sizes[1:], left - times * sizes[0])
    ]
