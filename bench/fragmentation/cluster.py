"""An ever-filling cluster: tasks arrive one by one, never leave, and are dropped where they fit nowhere.

Nodes with the same model, free CPU and free GPUs are in the same state; what a kind of task would do to a
state is worked out once for all of them, so that a step only looks up one score per node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from bench.traces import TraceNode, TraceTask
from scheduler.core.fragmentation.fragmentation import Fragmentation

INFEASIBLE = -1
UNKNOWN = -2
Scores = npt.NDArray[np.int64]


class State(NamedTuple):
    """``free``: free millis per GPU, ascending (GPUs of a node are interchangeable). ``classes``: of the GPU
    tasks on it, where a policy asks for them."""

    model: str
    capacity: tuple[int, int]
    cpu_free: int
    free: tuple[int, ...]
    classes: frozenset[int] = frozenset()


class Shape(NamedTuple):
    """A task without its memory, which no policy looks at."""

    cpu_millis: int
    gpus: int
    share_millis: int
    models: tuple[str, ...]


class Policy(Protocol):
    """How a node is chosen."""

    def score(self, state: State, shape: Shape) -> tuple[int, State]:
        """0 or more, higher is better, and the node's state afterwards; the task fits."""

    def choose(self, scores: Scores) -> int:
        """The index of a node, of which some have a score of 0 or more; nodes are in the run's fixed
        order."""

    def settle(self, state: State, shape: Shape, after: State) -> State:
        """The state that the chosen node really gets (``after``, unless there is chance in it)."""


def fits(state: State, shape: Shape) -> bool:
    """CPU, model and GPUs."""
    if state.cpu_free < shape.cpu_millis or (shape.models and state.model not in shape.models):
        return False
    return sum(free >= shape.share_millis for free in state.free) >= shape.gpus


def after_taking(state: State, shape: Shape, gpu: int | None = None) -> State:
    """The state with the task on it: on ``gpu`` (an index into ``state.free``), else on the fullest that
    fit."""
    free = list(state.free)
    first = next(i for i, one in enumerate(free) if one >= shape.share_millis) if gpu is None else gpu
    for index in range(first, first + shape.gpus):
        free[index] -= shape.share_millis
    return state._replace(cpu_free=state.cpu_free - shape.cpu_millis, free=tuple(sorted(free)))


class Cluster:
    """The nodes under one policy, in the fixed order of a run. ``measure`` judges fragments."""

    def __init__(self, nodes: Sequence[TraceNode], policy: Policy, measure: Fragmentation) -> None:
        self._policy = policy
        self._measure = measure
        self._states: list[State] = []
        self._numbers: dict[State, int] = {}
        self._fragments: dict[State, float] = {}
        self._scores: dict[Shape, Scores] = {}
        self._after: dict[tuple[Shape, int], State] = {}
        first = [
            State(node.model, (node.cpu_millis, node.gpus), node.cpu_millis, (1000,) * node.gpus)
            for node in nodes
        ]
        self._at = np.array([self._number(state) for state in first])
        self._memory = np.array([node.memory_mebibytes for node in nodes])
        self.used_millis = 0
        self.fragment_millis = sum(self._stranded(state) for state in first)

    def offer(self, task: TraceTask) -> int | None:
        """Place the task; the node's index, or None where it fits nowhere."""
        shape = Shape(task.cpu_millis, task.count, task.share_millis, task.models)
        scores = self._scores_of(shape)[self._at]
        scores[self._memory < task.memory_mebibytes] = INFEASIBLE
        if scores.max() < 0:
            return None
        node = self._policy.choose(scores)
        number = int(self._at[node])
        before = self._states[number]
        after = self._policy.settle(before, shape, self._after[shape, number])
        self.fragment_millis += self._stranded(after) - self._stranded(before)
        self._at[node] = self._number(after)
        self._memory[node] -= task.memory_mebibytes
        self.used_millis += task.gpu_millis
        return node

    def state(self, node: int) -> State:
        """Of the node, as it is now."""
        return self._states[int(self._at[node])]

    def _number(self, state: State) -> int:
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = len(self._states)
            self._states.append(state)
        return number

    def _stranded(self, state: State) -> float:
        known = self._fragments.get(state)
        if known is None:
            known = self._measure.stranded_millis(state.model, state.cpu_free, state.free)
            self._fragments[state] = known
        return known

    def _scores_of(self, shape: Shape) -> Scores:
        """Per state; for all that a node is in now they are known."""
        known = self._scores.get(shape)
        if known is None or len(known) < len(self._states):
            longer = np.full(2 * len(self._states), UNKNOWN, dtype=np.int64)
            if known is not None:
                longer[: len(known)] = known
            known = self._scores[shape] = longer
        at = self._at
        for number in np.unique(at[known[at] == UNKNOWN]).tolist():
            state = self._states[number]
            if fits(state, shape):
                known[number], self._after[shape, number] = self._policy.score(state, shape)
            else:
                known[number] = INFEASIBLE
        return known
