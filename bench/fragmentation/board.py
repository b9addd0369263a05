"""Nodes with what runs on them, as plain values, and a board on which moves are tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from scheduler.core.fragmentation import Fragmentation


class Need(NamedTuple):
    """What a task takes of a node. ``devices`` 0: host only. Empty ``models`` = any."""

    cpu_millis: int
    memory_mebibytes: int
    devices: int
    share_millis: int
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackedTask:
    """A running task. ``indexes``: of the node's devices that it uses. ``movable``: may be moved while it
    runs."""

    id: str
    need: Need
    indexes: tuple[int, ...] = ()
    movable: bool = True


@dataclass(frozen=True)
class PackedNode:
    """A node with devices of one model. ``cpu_free_millis``: ``fragmentation.UNTRACKED`` where it is not
    known."""

    name: str
    model: str
    cpu_free_millis: int
    memory_free_mebibytes: int
    free_millis: tuple[int, ...]
    tasks: tuple[PackedTask, ...] = ()


@dataclass(frozen=True)
class Move:
    """Move a running task to these devices of another node."""

    task: str
    source: str
    target: str
    indexes: tuple[int, ...]


class Spot(NamedTuple):
    """A place: number of the node, devices, and the waste that taking it adds."""

    node: int
    indexes: tuple[int, ...]
    wasted_millis: float


class Board:
    """Nodes that change as moves are tried on them; ``nodes`` holds their present values."""

    def __init__(self, nodes: Sequence[PackedNode], judge: Fragmentation) -> None:
        self.nodes = list(nodes)
        self._judge = judge
        self._cpu = np.array([node.cpu_free_millis for node in nodes], dtype=np.int64)
        self._memory = np.array([node.memory_free_mebibytes for node in nodes], dtype=np.int64)
        self._most = np.array([max(node.free_millis, default=0) for node in nodes], dtype=np.int64)

    def best_spot(self, need: Need, without: int | None = None) -> Spot | None:
        """Where the task fits and adds the least waste; of equal places the first. Not on the node
        ``without``."""
        best: Spot | None = None
        room = (self._cpu >= need.cpu_millis) & (self._memory >= need.memory_mebibytes)
        if need.devices:
            room &= self._most >= need.share_millis
        for number in np.flatnonzero(room).tolist():
            if number != without:
                for spot in self._spots(number, need):
                    if best is None or spot.wasted_millis < best.wasted_millis:
                        best = spot
        return best

    def wasted_millis(self, number: int) -> float:
        """How much of what is free on the node is of little use."""
        node = self.nodes[number]
        return self._judge.wasted_millis(node.model, node.cpu_free_millis, tuple(sorted(node.free_millis)))

    def put(self, number: int, task: PackedTask) -> None:
        """The task runs there, on its ``indexes``."""
        self._change(number, task, -1, (*self.nodes[number].tasks, task))

    def take(self, number: int, task: PackedTask) -> None:
        """The task runs there no more."""
        left = tuple(other for other in self.nodes[number].tasks if other.id != task.id)
        self._change(number, task, 1, left)

    def set(self, number: int, node: PackedNode) -> None:
        """The node is like this now."""
        self.nodes[number] = node
        self._cpu[number], self._memory[number] = node.cpu_free_millis, node.memory_free_mebibytes
        self._most[number] = max(node.free_millis, default=0)

    def _change(self, number: int, task: PackedTask, sign: int, tasks: tuple[PackedTask, ...]) -> None:
        self.set(number, replace(_changed(self.nodes[number], task.need, task.indexes, sign), tasks=tasks))

    def _spots(self, number: int, need: Need) -> Iterator[Spot]:
        node = self.nodes[number]
        for indexes in device_choices(node, need):
            after = _changed(node, need, indexes, -1)
            free = tuple(sorted(after.free_millis))
            wasted = self._judge.wasted_millis(node.model, after.cpu_free_millis, free)
            yield Spot(number, indexes, wasted - self.wasted_millis(number))


def device_choices(node: PackedNode, need: Need) -> list[tuple[int, ...]]:
    """The devices of a node that a task could take: one set, or for a share one device of each free
    amount."""
    if need.models and node.model not in need.models:
        return []
    if not need.devices:
        return [()]
    fitting = [index for index, free in enumerate(node.free_millis) if free >= need.share_millis]
    if need.devices > 1:
        return [tuple(fitting[: need.devices])] if len(fitting) >= need.devices else []
    first = {node.free_millis[index]: (index,) for index in reversed(fitting)}
    return [first[free] for free in sorted(first)]


def _changed(node: PackedNode, need: Need, indexes: tuple[int, ...], sign: int) -> PackedNode:
    free = list(node.free_millis)
    for index in indexes:
        free[index] += sign * need.share_millis
    return replace(
        node,
        cpu_free_millis=node.cpu_free_millis + sign * need.cpu_millis,
        memory_free_mebibytes=node.memory_free_mebibytes + sign * need.memory_mebibytes,
        free_millis=tuple(free),
    )
