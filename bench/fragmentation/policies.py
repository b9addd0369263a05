"""The policies of the FGD experiments (Weng et al., USENIX ATC 2023).

Scores are whole numbers; among the best nodes the first of the run's fixed order is taken, as in the
published setup."""

from __future__ import annotations

from collections.abc import Callable
from math import exp

import numpy as np

from bench.fragmentation.cluster import Scores, Shape, State, after_taking
from scheduler.core.fragmentation.fragmentation import Fragmentation
from scheduler.core.model.types import WHOLE_MILLIS

CPU_SCALE = 128_000
GPU_SCALE = 8_000
"""The largest node, for every node."""


class FirstOfBest:
    """The highest score; of equal ones the first."""

    def score(self, state: State, shape: Shape) -> tuple[int, State]:
        raise NotImplementedError

    def choose(self, scores: Scores) -> int:
        return int(scores.argmax())

    def settle(self, state: State, shape: Shape, after: State) -> State:
        return after


class Random(FirstOfBest):
    """Any node that fits, and on it any GPU that fits."""

    def __init__(self, draw: np.random.Generator) -> None:
        self._draw = draw

    def score(self, state: State, shape: Shape) -> tuple[int, State]:
        return 0, state

    def choose(self, scores: Scores) -> int:
        return int(self._draw.choice(np.flatnonzero(scores >= 0)))

    def settle(self, state: State, shape: Shape, after: State) -> State:
        fitting = [i for i, free in enumerate(state.free) if free >= shape.share_millis]
        gpu = int(self._draw.choice(fitting)) if shape.gpus == 1 else None
        return after_taking(state, shape, gpu)


class DotProduct(FirstOfBest):
    """Low where what is free and what is asked for point the same way."""

    def score(self, state: State, shape: Shape) -> tuple[int, State]:
        cpu = state.cpu_free / CPU_SCALE * shape.cpu_millis / CPU_SCALE
        gpu = sum(state.free) / GPU_SCALE * shape.gpus * shape.share_millis / GPU_SCALE
        return int(100 * (1 - (cpu + gpu) / 2)), after_taking(state, shape)


class GpuPacking(FirstOfBest):
    """GPUs in use first, then nodes in use, then idle nodes."""

    def score(self, state: State, shape: Shape) -> tuple[int, State]:
        return self._score(state, shape), after_taking(state, shape)

    @staticmethod
    def _score(state: State, shape: Shape) -> int:
        if not shape.gpus:
            return 0
        idle = state.free.count(WHOLE_MILLIS)
        if idle == len(state.free):
            return max(33 - idle, idle)
        taken = [free for free in state.free if free >= shape.share_millis][: shape.gpus]
        opened = taken.count(WHOLE_MILLIS)
        if opened:
            return max(50 - opened, 33)
        return max(int(100 - sum(taken) / 10), 50)


class GpuClustering(FirstOfBest):
    """Tasks of one class (sharing, 1, 2, 4 or 8 GPUs) together, then the fuller node."""

    def score(self, state: State, shape: Shape) -> tuple[int, State]:
        after = after_taking(state, shape)
        if not shape.gpus:
            return 0, after
        kind = 0 if shape.share_millis < WHOLE_MILLIS else shape.gpus
        base = 25 * (GPU_SCALE - sum(state.free)) / GPU_SCALE
        if not state.classes:
            bonus = 25
        elif kind in state.classes:
            bonus = 75 if len(state.classes) == 1 else 50
        else:
            bonus = 0
        return int(base + bonus), after._replace(classes=state.classes | {kind})


class BestFit(FirstOfBest):
    """The node with the least left, stretched to 0..100 over those that fit."""

    def score(self, state: State, shape: Shape) -> tuple[int, State]:
        after = after_taking(state, shape)
        left = 0.5 * after.cpu_free / CPU_SCALE + 0.5 * sum(after.free) / GPU_SCALE
        return int(100 * (1 - left)), after

    def choose(self, scores: Scores) -> int:
        feasible = scores >= 0
        low, high = int(scores[feasible].min()), int(scores.max())
        stretched = (scores - low) * 100 // (high - low) if high > low else np.zeros_like(scores)
        return int(np.where(feasible, stretched, -1).argmax())


class ByFragments(FirstOfBest):
    """The placement, over nodes and GPUs, with the best score of what it strands."""

    def __init__(self, judge: Callable[[State, State], int]) -> None:
        self._judge = judge

    def score(self, state: State, shape: Shape) -> tuple[int, State]:
        options = [after_taking(state, shape, gpu) for gpu in _choices(state, shape)]
        scores = [self._judge(state, after) for after in options]
        best = scores.index(max(scores))
        return scores[best], options[best]


def _choices(state: State, shape: Shape) -> list[int | None]:
    """For a sharing task, one GPU of each amount that is free and enough."""
    if shape.gpus != 1 or shape.share_millis == WHOLE_MILLIS:
        return [None]
    return [
        i
        for i, free in enumerate(state.free)
        if free >= shape.share_millis and (i == 0 or free != state.free[i - 1])
    ]


def fragmentation_gradient(mix: Fragmentation) -> ByFragments:
    """FGD: how much the fragments of the node grow, through a sigmoid, as a whole number of 0..100."""

    def judge(before: State, after: State) -> int:
        less = mix.stranded_millis(before.model, before.cpu_free, before.free) - mix.stranded_millis(
            after.model, after.cpu_free, after.free
        )
        return int(100 / (1 + exp(-less / 1000)))

    return ByFragments(judge)
