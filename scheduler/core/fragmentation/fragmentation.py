"""How much of a node's free capacity the usual requests cannot use, and how much a placement adds to that.

``stranded_millis`` is the measure of Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing
Workloads with Fragmentation Gradient Descent", USENIX ATC 2023. ``score`` looks at three things that it
does not tell apart, each weighed by the devices that requests take: devices that cannot be used at all,
host CPU that will run out before the devices do, and cuts of shared devices that leave worthless rests (see
docs/design/fragmentation.md)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import exp

from scheduler.core.fragmentation.usable_capacity import WHOLE_MILLIS, UsableCapacity, Usual
from scheduler.core.model.types import Request

BUCKETS = 100
"""Scores are cut into so many steps: among nearly equal nodes the first in a fixed order is taken, which
keeps untouched nodes untouched."""

STRANDED_WEIGHT = 0.15
SHORT_WEIGHT = 0.7
WORTH_WEIGHT = 2.0
"""Of the three parts of the score; chosen on the default openb trace."""

UNTRACKED = 1 << 62
"""Free CPU of a node whose host CPU is not tracked."""

_STEEPEST = 500.0
NodeCapacity = tuple[int, tuple[int, ...]]
"""(free CPU millis, free millis per device)."""


@dataclass(frozen=True)
class TypicalTask:
    """A kind of request and how often it comes. ``count`` 0: it takes host CPU only. Empty ``models`` =
    any."""

    weight: float
    cpu_millis: int
    count: int
    share_millis: int
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A request as it is made. ``ranks``: how often it comes; ``queue``: from where."""

    request: Request
    ranks: float
    queue: str


def typical_tasks(tasks: Iterable[TypicalTask], coverage: float = 0.95) -> tuple[TypicalTask, ...]:
    """The most frequent kinds that together make up ``coverage`` of all, with weights that add up to 1."""
    weights: dict[tuple[int, int, int, tuple[str, ...]], float] = {}
    for task in tasks:
        kind = (task.cpu_millis, task.count, task.share_millis, task.models)
        weights[kind] = weights.get(kind, 0.0) + task.weight
    total = sum(weights.values())
    chosen: list[tuple[tuple[int, int, int, tuple[str, ...]], float]] = []
    covered = 0.0
    for kind, weight in sorted(weights.items(), key=lambda item: (-item[1], item[0])):
        if covered >= coverage * total:
            break
        chosen.append((kind, weight))
        covered += weight
    return tuple(TypicalTask(weight / covered, *kind) for kind, weight in chosen)


class Fragmentation:
    """Judges by one mix of typical tasks; remembers what it has worked out. ``asked``: the requests that they
    stand for, where these are known."""

    def __init__(self, tasks: Sequence[TypicalTask], asked: Sequence[Asked] = ()) -> None:
        self.tasks = tuple(tasks)
        self.asked = tuple(asked)
        devices = sum(task.weight * task.count * task.share_millis for task in tasks)
        self._by_devices = tuple(
            replace(task, weight=task.weight * task.count * task.share_millis / devices)
            for task in tasks
            if task.count
        )
        self._all: dict[str, _Demands] = {}
        self._demands: dict[str, _Demands] = {}
        self._stranded: dict[tuple[str, int, tuple[int, ...]], float] = {}
        self._waste: dict[tuple[str, int, tuple[int, ...]], float] = {}
        self._usable: dict[str, UsableCapacity] = {}

    def stranded_millis(self, model: str, cpu_free_millis: int, free_millis: tuple[int, ...]) -> float:
        """Free millis of the node's devices that a task of the mix cannot use, on average over the mix."""
        key = (model, cpu_free_millis, free_millis)
        known = self._stranded.get(key)
        if known is None:
            demands = self._all.get(model)
            if demands is None:
                demands = self._all[model] = _Demands(self.tasks, model)
            known = self._stranded[key] = demands.strand(cpu_free_millis, free_millis)
        return known

    def score(
        self, model: str, before: NodeCapacity, after: NodeCapacity, capacity: tuple[int, int]
    ) -> float:
        """In [0, 1], higher is better: how little a placement wastes. ``capacity``: the node's CPU millis
        (0 = not tracked) and devices."""
        tracked = capacity[0] > 0
        cpu_before, cpu_after = (before[0], after[0]) if tracked else (UNTRACKED, UNTRACKED)
        more = self.wasted_millis(model, cpu_after, after[1]) - self.wasted_millis(
            model, cpu_before, before[1]
        )
        return int(BUCKETS / (1 + exp(min(more / WHOLE_MILLIS, _STEEPEST)))) / BUCKETS

    def wasted_millis(self, model: str, cpu: int, free: tuple[int, ...]) -> float:
        """What the score weighs: the parts of a node's free devices that are of little use, weighted and
        added up."""
        key = (model, cpu, free)
        known = self._waste.get(key)
        if known is None:
            usable = self._usable.get(model)
            if usable is None:
                usable = self._usable[model] = self._usable_of(model)
                self._demands[model] = _Demands(self._by_devices, model)
            known = self._waste[key] = (
                STRANDED_WEIGHT * self._demands[model].strand(cpu, free)
                + SHORT_WEIGHT * usable.short_millis(cpu, sum(free))
                + WORTH_WEIGHT * usable.worthless_millis(free)
            )
        return known

    def _usable_of(self, model: str) -> UsableCapacity:
        return UsableCapacity(
            [
                Usual(task.weight, task.cpu_millis, task.count, task.share_millis)
                for task in self.tasks
                if task.count and (not task.models or model in task.models)
            ]
        )


class _Demands:
    """What a mix of tasks asks of one model's devices, by kinds of request. ``others``: the weight of what
    cannot use them at all."""

    __slots__ = ("kinds", "others")

    def __init__(self, tasks: Sequence[TypicalTask], model: str) -> None:
        self.others = 0.0
        weights: dict[tuple[int, int, int], float] = {}
        for task in tasks:
            if task.count and (not task.models or model in task.models):
                kind = (task.share_millis, task.count, task.cpu_millis)
                weights[kind] = weights.get(kind, 0.0) + task.weight
            else:
                self.others += task.weight
        self.kinds = [(weight, *kind) for kind, weight in weights.items()]

    def strand(self, cpu_free_millis: int, free_millis: tuple[int, ...]) -> float:
        """Free millis that a task cannot use, on average over the mix."""
        free = sorted(free_millis)
        sums = [0, *accumulate(free)]
        total, devices = sums[-1], len(free)
        stranded = self.others * total
        for weight, share_millis, count, cpu_millis in self.kinds:
            below = bisect_left(free, share_millis)
            fits = cpu_free_millis >= cpu_millis and devices - below >= count
            stranded += weight * (sums[below] if fits else total)
        return stranded
