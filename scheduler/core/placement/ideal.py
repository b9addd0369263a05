"""Could a gang ever be placed: on the pool as if nothing ran on it and nothing were lost, cordoned or broken?

Answered per kind of node with how many there are of it, not per node, so that it takes as long on ten
thousand nodes as on ten.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from scheduler.core.model.types import WorkloadView
from scheduler.core.placement.placing import Bounds, Stuck
from scheduler.core.pool.layout import Layout
from scheduler.core.pool.pool import Pool
from scheduler.core.pool.states import NodeState, Shape, ranks_in


class Ideal:
    """The pool's kinds of nodes, mended and idle. ``with_states``: state number -> nodes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._idle_of: dict[int, NodeState] = {}
        self._nodes: Counter[int] = Counter()
        self._known: dict[tuple[object, ...], Stuck | None] = {}

    def _survey(self) -> None:
        """Count the kinds of nodes, once somebody asks."""
        if self._idle_of:
            return
        pool = self._pool
        layouts = Counter(id(usage.layout) for usage in pool.usage)
        by_id: dict[int, Layout] = {id(usage.layout): usage.layout for usage in pool.usage}
        self._idle_of = {key: pool.states.idle(pool.states.mended(by_id[key])) for key in layouts}
        for key, nodes in layouts.items():
            self._nodes[self._idle_of[key].number] += nodes

    def obstacle(self, workload: WorkloadView, bounds: Bounds) -> Stuck | None:
        """None where the gang fits at best, else the role that does not."""
        key = (workload.roles, bounds.models, workload.affinity)
        if key not in self._known:
            self._survey()
            self._known[key] = self._try(workload, bounds)
        return self._known[key]

    def _try(self, workload: WorkloadView, bounds: Bounds) -> Stuck | None:
        shapes = [self._pool.shape(role.request, bounds.models) for role in workload.roles]
        nodes, fitted = self._nodes.copy(), 0
        total = sum(role.least for role in workload.roles)
        room = [self._room(shape) for shape in shapes]
        order = sorted(range(len(shapes)), key=lambda i: (room[i], i))
        if room[order[0]] < workload.roles[order[0]].least:
            return Stuck(workload.roles[order[0]], room[order[0]], total)
        for index in order:
            for _ in range(workload.roles[index].least):
                if not self._place(shapes[index], nodes):
                    return Stuck(workload.roles[index], fitted, total)
                fitted += 1
        if workload.affinity.same and not self._in_one_domain(workload, shapes):
            return Stuck(workload.roles[0], total, total, scattered=True)
        if workload.affinity.slice_same and not self._in_slices(workload, shapes):
            return Stuck(workload.roles[0], total, total, scattered=True)
        return None

    def _room(self, shape: Shape) -> int:
        states = self._pool.states.all
        return sum(nodes * ranks_in(states[number], shape) for number, nodes in self._nodes.items())

    def _place(self, shape: Shape, nodes: Counter[int]) -> bool:
        best = None
        for number in nodes:
            option = self._pool.option(shape, self._pool.states.all[number])
            if option is not None and (best is None or (option.score, -number) > (best[0].score, -best[1])):
                best = option, number
        if best is None:
            return False
        option, number = best
        nodes[number] -= 1
        if not nodes[number]:
            del nodes[number]
        nodes[option.after.number] += 1
        return True

    def _in_slices(self, workload: WorkloadView, shapes: list[Shape]) -> bool:
        """Whether all domains together have room for the slices of every role by itself."""
        size = workload.affinity.slice_size
        for role, shape in zip(workload.roles, shapes, strict=True):
            room = self._room_by_domain(workload.affinity.slice_same, shape)
            if int((room // min(size, role.least or 1)).sum()) < -(-role.least // size):
                return False
        return True

    def _room_by_domain(self, key: str, shape: Shape) -> npt.NDArray[np.int64]:
        of_node, members = self._pool.topology.domains(key)
        inside = of_node >= 0
        ranks = {layout: ranks_in(state, shape) for layout, state in self._idle_of.items()}
        per_node = np.array([ranks[id(usage.layout)] for usage in self._pool.usage])
        return np.bincount(of_node[inside], per_node[inside], len(members)).astype(np.int64)

    def _in_one_domain(self, workload: WorkloadView, shapes: list[Shape]) -> bool:
        """Whether some domain has room for every role by itself."""
        _, members = self._pool.topology.domains(workload.affinity.same)
        able = np.ones(len(members), dtype=bool)
        for role, shape in zip(workload.roles, shapes, strict=True):
            able &= self._room_by_domain(workload.affinity.same, shape) >= role.least
        return bool(able.any())
