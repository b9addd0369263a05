"""Emptying nodes that little runs on, so that whole nodes are free for those that need them."""

from __future__ import annotations

from scheduler.core.model.types import Migrate, Placement
from scheduler.core.placement.residual import residual_capacity
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.layout import ModelKey
from scheduler.core.pool.states import NodeState
from scheduler.core.reshape.movers import Movers

MOVES_PER_NODE = 4
"""A node is emptied with at most so many moves."""

MOST_IN_USE = 0.5
"""Nodes of whose devices more than this part is in use are left alone."""

NODES_TRIED = 16
"""So many nodes are tried, the cheapest to empty first."""

SPARE = 16
"""Nodes are emptied while fewer than one in so many of their kind is idle."""

AcceleratorKind = tuple[tuple[ModelKey, tuple[int, ...]], ...]
"""What accelerators a node has: model, and devices per island."""


def consolidate(trial: Trial) -> tuple[Migrate, ...]:
    """At most ``policy.max_moves`` moves that leave nodes idle where such are scarce, to nodes that are in
    use already. On success the trial holds the moved ones at their new places; what they leave stays
    taken."""
    movers = Movers(trial)
    if not movers.on_node or trial.policy.max_moves <= 0:
        return ()
    return _Consolidation(trial, movers).run()


class _Consolidation:
    def __init__(self, trial: Trial, movers: Movers) -> None:
        self._trial, self._movers = trial, movers
        self._moves: dict[str, Placement] = {}
        self._size: dict[AcceleratorKind, int] = {}
        self._idle: dict[AcceleratorKind, int] = {}
        self._barred: list[int] = []
        for number, listed in enumerate(trial.pool.listed):
            if listed:
                self._count(number)

    def _count(self, number: int) -> None:
        kind = self._kind(number)
        self._size[kind] = self._size.get(kind, 0) + 1
        if self._is_idle(number):
            self._idle[kind] = self._idle.get(kind, 0) + 1
            self._barred.append(number)

    def run(self) -> tuple[Migrate, ...]:
        for number in self._choices()[:NODES_TRIED]:
            self._empty(number)
        self._trial.pool.occupy(residual_capacity(self._movers.left_by(self._moves), ()))
        message = "moves so that a node becomes free"
        return tuple(Migrate(uid, place, message) for uid, place in self._moves.items())

    def _choices(self) -> list[int]:
        """Nodes of scarce kinds that can be emptied, the cheapest first."""
        choices = []
        for number, uids in self._movers.on_node.items():
            few = len(uids) <= MOVES_PER_NODE and self._in_use(number) <= MOST_IN_USE
            if few and self._is_scarce(number) and self._are_all(uids, number):
                choices.append((self._movers.cost(uids), number))
        return [number for _, number in sorted(choices)]

    def _empty(self, number: int) -> None:
        """Move everybody off the node, when that is still possible and worth it."""
        trial, uids = self._trial, self._movers.on_node[number]
        if not self._is_scarce(number) or not self._are_all(uids, number):
            return
        if self._moves.keys() & set(uids) or len(self._moves) + len(uids) > trial.policy.max_moves:
            return
        mark = trial.mark()
        found = self._movers.move(uids, [number, *self._barred], self._moves)
        if found is None:
            trial.rollback(mark)
            return
        self._moves |= found
        self._barred.append(number)
        kind = self._kind(number)
        self._idle[kind] = self._idle.get(kind, 0) + 1

    # -- questions about a node

    def _state(self, number: int) -> NodeState:
        pool = self._trial.pool
        return pool.states.all[pool.state_of[number]]

    def _kind(self, number: int) -> AcceleratorKind:
        groups = self._trial.pool.usage[number].layout.groups
        return tuple((group.key, group.islands) for group in groups if not group.shared)

    def _is_idle(self, number: int) -> bool:
        return self._state(number) is self._trial.pool.states.idle(self._state(number).layout)

    def _is_scarce(self, number: int) -> bool:
        """Whether there are few idle nodes with such accelerators."""
        kind = self._kind(number)
        return bool(kind) and self._idle.get(kind, 0) * SPARE < self._size[kind]

    def _in_use(self, number: int) -> float:
        state = self._state(number)
        free = capacity = 0
        for index, group in enumerate(state.layout.groups):
            if not group.shared:
                free += sum(state.free_millis(index))
                capacity += group.devices * 1000
        return 1 - free / capacity if capacity else 1.0

    def _are_all(self, uids: list[str], number: int) -> bool:
        """Whether nothing is left on the node without them."""
        pool, mark = self._trial.pool, self._trial.pool.mark()
        pool.vacate(self._movers.places_on(uids, number))
        idle = self._is_idle(number)
        pool.rollback(mark)
        return idle
