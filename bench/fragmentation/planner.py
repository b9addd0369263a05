"""Moves of running tasks that make room for one that fits nowhere, or that lessen what is wasted.

Every plan is tried on a board first, move by move, and is given out only if it achieves what it is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice

from bench.fragmentation.board import Board, Move, Need, PackedNode, PackedTask, Spot, device_choices
from scheduler.core.fragmentation import Fragmentation

MAX_TRIALS = 64
"""Sets of tasks of one size that are tried for a task that needs room."""
MAX_SETS = 256
"""Sets of tasks of one size that are looked at per node."""
WORST_NODES = 64
"""Nodes that are looked at for each move that lessens waste."""


@dataclass(frozen=True)
class Plan:
    """After ``moves``, in this order, the task fits on these devices of ``node``."""

    moves: tuple[Move, ...]
    node: str
    indexes: tuple[int, ...]


@dataclass(frozen=True)
class _Clearing:
    """Tasks that would have to leave a node."""

    node: int
    leaving: tuple[PackedTask, ...]

    @property
    def cost(self) -> tuple[int, int, int]:
        """Few moves, of little; then the order of nodes."""
        millis = sum(task.need.devices * task.need.share_millis for task in self.leaving)
        return len(self.leaving), millis, self.node


def make_room(
    nodes: Sequence[PackedNode], need: Need, judge: Fragmentation, max_moves: int = 4
) -> Plan | None:
    """The cheapest moves after which ``need`` fits, no more than ``max_moves``; None where none are found.

    Each task that leaves goes straight to a place that is free now or was left by an earlier move. A plan
    without moves means that it fits as it is."""
    board = Board(nodes, judge)
    spot = board.best_spot(need)
    if spot is not None:
        return Plan((), nodes[spot.node].name, spot.indexes)
    elsewhere: dict[Need, bool] = {}
    hopeful = [
        (number, movable)
        for number, node in enumerate(nodes)
        if _fits_without(node, need, node.tasks)
        and _fits_without(node, need, movable := _movable(board, node, elsewhere))
    ]
    for size in range(1, max_moves + 1):
        clearings = [
            _Clearing(number, leaving)
            for number, movable in hopeful
            for leaving in islice(combinations(movable, size), MAX_SETS)
            if _fits_without(nodes[number], need, leaving)
        ]
        for clearing in sorted(clearings, key=lambda one: one.cost)[:MAX_TRIALS]:
            plan = _try(board, clearing, need)
            if plan is not None:
                return plan
    return None


def defragment(
    nodes: Sequence[PackedNode], judge: Fragmentation, threshold_millis: float, max_moves: int = 16
) -> tuple[Move, ...]:
    """Moves that lessen the pool's waste by ``threshold_millis`` or more each, the best first."""
    board = Board(nodes, judge)
    moves: list[Move] = []
    while len(moves) < max_moves:
        worst = sorted(range(len(nodes)), key=lambda number: (-board.wasted_millis(number), number))
        found = max(
            (option for number in worst[:WORST_NODES] for option in _improvements(board, number)),
            key=lambda option: option[0],
            default=None,
        )
        if found is None or found[0] < threshold_millis:
            break
        moves.append(_carry_out(board, *found[1:]))
    return tuple(moves)


def _movable(board: Board, node: PackedNode, elsewhere: dict[Need, bool]) -> list[PackedTask]:
    """The tasks of the node that could go to some place that is free now."""
    movable = []
    for task in node.tasks:
        if task.movable:
            if task.need not in elsewhere:
                elsewhere[task.need] = board.best_spot(task.need) is not None
            if elsewhere[task.need]:
                movable.append(task)
    return movable


def _fits_without(node: PackedNode, need: Need, leaving: Iterable[PackedTask]) -> bool:
    if need.models and node.model not in need.models:
        return False
    cpu, memory, free = node.cpu_free_millis, node.memory_free_mebibytes, list(node.free_millis)
    for task in leaving:
        cpu += task.need.cpu_millis
        memory += task.need.memory_mebibytes
        for index in task.indexes:
            free[index] += task.need.share_millis
    if cpu < need.cpu_millis or memory < need.memory_mebibytes:
        return False
    return sum(one >= need.share_millis for one in free) >= need.devices


def _try(board: Board, clearing: _Clearing, need: Need) -> Plan | None:
    """The plan, with the board as it was before."""
    moves, touched = [], {clearing.node: board.nodes[clearing.node]}
    for task in sorted(
        clearing.leaving, key=lambda one: (-one.need.share_millis, -one.need.cpu_millis, one.id)
    ):
        spot = board.best_spot(task.need, without=clearing.node)
        if spot is None:
            break
        touched.setdefault(spot.node, board.nodes[spot.node])
        moves.append(_carry_out(board, clearing.node, task, spot))
    node = board.nodes[clearing.node]
    for number, before in touched.items():
        board.set(number, before)
    if len(moves) < len(clearing.leaving):
        return None
    return Plan(tuple(moves), node.name, device_choices(node, need)[0])


def _improvements(board: Board, number: int) -> Iterator[tuple[float, int, PackedTask, Spot]]:
    """For each task of a node: how much waste its best move saves, and the move."""
    before, node = board.wasted_millis(number), board.nodes[number]
    for task in node.tasks:
        if task.movable:
            board.take(number, task)
            spot = board.best_spot(task.need, without=number)
            saved = before - board.wasted_millis(number)
            board.set(number, node)
            if spot is not None:
                yield saved - spot.wasted_millis, number, task, spot


def _carry_out(board: Board, source: int, task: PackedTask, spot: Spot) -> Move:
    board.take(source, task)
    board.put(spot.node, replace(task, indexes=spot.indexes))
    return Move(task.id, board.nodes[source].name, board.nodes[spot.node].name, spot.indexes)
