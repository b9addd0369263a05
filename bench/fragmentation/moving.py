"""The product's policy with its planner: a task that fits nowhere gets room by moving others, where that is
possible.

Moves alone gain little in a cluster that only fills up, because what is placed well from the start need not
be moved. What is lost there is the room beside shares that leave a worthless rest, and these were placed
because they fitted. So a ``choosy`` planner also turns such tasks away while the pool is nearly full:
others that waste less will come for the room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.fragmentation.arrivals import gpu_millis_of
from bench.fragmentation.board import Board, Need, PackedNode, PackedTask
from bench.fragmentation.cluster import Cluster, State
from bench.fragmentation.planner import Plan, make_room
from bench.traces import TraceNode, TraceTask
from scheduler.core.fragmentation import Fragmentation
from scheduler.core.types import WHOLE_MILLIS

MAX_MOVES = 4
NEARLY_FULL = 0.85
"""Part of the GPUs in use from which wasteful tasks are turned away."""
WASTEFUL_MILLIS = 300.0
"""By the measure of the product's score, which counts a worthless rest twice."""


@dataclass
class Tally:
    """What the planner did."""

    moves: int = 0
    made_room_for: int = 0
    most_moves: int = 0
    turned_away: int = 0


class MovingCluster:
    """A cluster under the product's policy that knows which task is where. ``choosy``: turn wasteful tasks
    away."""

    def __init__(
        self, nodes: Sequence[TraceNode], cluster: Cluster, judge: Fragmentation, choosy: bool
    ) -> None:
        self._cluster = cluster
        self._judge = judge
        self._board = Board([_packed(node) for node in nodes], judge)
        self._numbers = {node.name: index for index, node in enumerate(nodes)}
        self._choosy_from = NEARLY_FULL * gpu_millis_of(nodes) if choosy else float("inf")
        self._hopeless: set[Need] = set()
        self.tally = Tally()

    def offer(self, name: str, task: TraceTask) -> bool:
        """Place the task, if it takes GPUs also after moves. ``name``: of this arrival."""
        need = Need(task.cpu_millis, task.memory_mebibytes, task.count, task.share_millis, task.models)
        turned_away = self.tally.turned_away
        node = self._cluster.offer(task, self._refuse)
        if node is not None:
            indexes = _taken(self._board.nodes[node].free_millis, self._cluster.state(node).free, need)
            self._board.put(node, PackedTask(name, need, indexes))
            return True
        if self.tally.turned_away > turned_away or not task.count or need in self._hopeless:
            return False
        plan = make_room(self._board.nodes, need, self._judge, MAX_MOVES)
        if plan is None:
            self._hopeless.add(need)
            return False
        self._carry_out(plan, PackedTask(name, need, plan.indexes))
        return True

    def _refuse(self, before: State, after: State) -> bool:
        if self._cluster.used_millis < self._choosy_from:
            return False
        now, then = (self._judge.wasted_millis(one.model, one.cpu_free, one.free) for one in (before, after))
        self.tally.turned_away += then - now >= WASTEFUL_MILLIS
        return then - now >= WASTEFUL_MILLIS

    def _carry_out(self, plan: Plan, newcomer: PackedTask) -> None:
        board = self._board
        self._hopeless.clear()
        for move in plan.moves:
            source, target = self._numbers[move.source], self._numbers[move.target]
            task = next(task for task in board.nodes[source].tasks if task.id == move.task)
            board.take(source, task)
            board.put(target, replace(task, indexes=move.indexes))
            self._tell(source, task.need.memory_mebibytes)
            self._tell(target, -task.need.memory_mebibytes)
        node = self._numbers[plan.node]
        board.put(node, newcomer)
        self._tell(node, -newcomer.need.memory_mebibytes)
        self._cluster.used_millis += newcomer.need.devices * newcomer.need.share_millis
        self.tally.moves += len(plan.moves)
        self.tally.made_room_for += 1
        self.tally.most_moves = max(self.tally.most_moves, len(plan.moves))

    def _tell(self, number: int, memory_mebibytes: int) -> None:
        """The cluster, which only knows states, of a change on the board."""
        node, state = self._board.nodes[number], self._cluster.state(number)
        after = state._replace(cpu_free=node.cpu_free_millis, free=tuple(sorted(node.free_millis)))
        self._cluster.change(number, after, memory_mebibytes)


def _packed(node: TraceNode) -> PackedNode:
    return PackedNode(
        node.name, node.model, node.cpu_millis, node.memory_mebibytes, (WHOLE_MILLIS,) * node.gpus
    )


def _taken(before: tuple[int, ...], after: tuple[int, ...], need: Need) -> tuple[int, ...]:
    """On which devices a task went, of which only the amounts are known that were free before and after."""
    if not need.devices:
        return ()
    if need.devices > 1 or need.share_millis == WHOLE_MILLIS:
        return tuple(i for i, free in enumerate(before) if free == WHOLE_MILLIS)[: need.devices]
    gone = Counter(before) - Counter(after)
    return (before.index(next(iter(gone))),)
