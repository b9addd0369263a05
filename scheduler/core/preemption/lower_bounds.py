"""Second stage of preemption: what clearing a node costs at least, for all nodes at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from scheduler.core.pool.layout import MEMORY_BITS
from scheduler.core.pool.pool import Pool
from scheduler.core.pool.states import Demand, NodeState, Shape
from scheduler.core.preemption.claims import VictimClass

Entry = tuple[int, int, int, float, float]
"""Node, number of who is there, its millis there, least price per millis when only this node is wanted, and
when all are that it is on."""


class LowerBounds:
    """Made from all candidates of a trial: ``classes`` in their order, ``class_of`` each candidate by its
    number (an index into them), and an entry for each node that it is on."""

    def __init__(
        self,
        pool: Pool,
        classes: Sequence[VictimClass],
        class_of: Sequence[int],
        entries: Sequence[Entry],
    ) -> None:
        self._pool = pool
        self._classes = classes
        self._class_of = np.array(class_of, dtype=np.int64)
        self._evicted = np.zeros(len(class_of), dtype=bool)
        table = np.array(entries, dtype=np.float64).reshape(-1, 5)
        self._ladders = _Ladder(table, 3), _Ladder(table, 4)
        self._shortfalls: dict[Shape, npt.NDArray[np.int64]] = {}

    def mark_evicted(self, numbers: Iterable[int]) -> None:
        """These have been taken from in the trial: they are no candidates any more."""
        for number in numbers:
            self._evicted[number] = True

    def prices(self, shape: Shape, classes: Collection[VictimClass], ranks: int) -> npt.NDArray[np.float64]:
        """Per node a price that clearing it for one of so many ranks does not fall below, when only these
        classes are taken from. Infinite where they do not hold enough."""
        pool = self._pool
        short = self._shortfall(shape)[np.frombuffer(pool.state_of, dtype=np.int32)]
        listed = np.frombuffer(pool.listed, dtype=np.uint8) > 0
        are_open = np.array([one in classes for one in self._classes], dtype=bool)
        usable = are_open[self._class_of] & ~self._evicted
        least, there = self._ladders[ranks > 1].climb(short, usable)
        able = listed & (short >= 0) & (short <= there)
        return np.where(able, least * (1 - 1e-9), np.inf)

    def _shortfall(self, shape: Shape) -> npt.NDArray[np.int64]:
        """Per state that any node is in, see ``shortfall_millis``."""
        states = self._pool.states.all
        table = self._shortfalls.get(shape)
        if table is None or len(table) < len(states):
            grown = np.full(2 * len(states), -2, dtype=np.int64)
            if table is not None:
                grown[: len(table)] = table
            table = self._shortfalls[shape] = grown
        for number in np.unique(np.frombuffer(self._pool.state_of, dtype=np.int32)):
            if table[number] == -2:
                table[number] = shortfall_millis(states[number], shape)
        return table


class _Ladder:
    """What is on each node, the cheapest millis first."""

    def __init__(self, table: npt.NDArray[np.float64], density: int) -> None:
        table = table[np.lexsort((table[:, 1], table[:, density], table[:, 0]))]
        self._node_of = table[:, 0].astype(np.int64)
        self._nodes, self._starts = np.unique(self._node_of, return_index=True)
        self._sizes = np.diff(np.append(self._starts, len(table)))
        self._number_of = table[:, 1].astype(np.int64)
        self._millis_of = table[:, 2]
        self._density_of = table[:, density]

    def climb(
        self, short: npt.NDArray[np.int64], usable: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Per node the price of the cheapest millis that make up what it is short of (the bound of the
        fractional knapsack, Dantzig 1957), and all millis that are there."""
        least, there = np.zeros(len(short)), np.zeros(len(short))
        if not len(self._starts):
            return least, there
        millis = np.where(usable[self._number_of], self._millis_of, 0.0)
        before = np.cumsum(millis) - millis
        before -= np.repeat(before[self._starts], self._sizes)
        part = np.clip(short[self._node_of] - before, 0.0, millis)
        least[self._nodes] = np.add.reduceat(part * self._density_of, self._starts)
        there[self._nodes] = np.add.reduceat(millis, self._starts)
        return least, there


def shortfall_millis(state: NodeState, shape: Shape) -> int:
    """The least that must come free on a node in this state before a rank of the shape fits; -1 where it can
    never fit on such a node."""
    if not shape.takes_devices:
        return 0 if shape.is_let_in(state.layout) else -1
    short = [_shortfall(state, demand) for demand in shape.demands(state.layout)]
    return min(short, default=-1)


def _shortfall(state: NodeState, demand: Demand) -> int:
    free = sorted(state.free_millis(demand.group), reverse=True)
    millis = demand.packed >> MEMORY_BITS
    if demand.whole:
        return sum(max(0, millis - each) for each in free[: demand.grants])
    if demand.grants == 1:
        return max(0, millis - free[0]) if free else 0
    return max(0, demand.grants * millis - sum(free))
