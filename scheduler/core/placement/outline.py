"""What runs, in four numbers: from them it is told at once that nobody can give way to a claimant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import NamedTuple

from scheduler.core.model.types import RunningView

NOTHING = 1 << 62
"""The least priority of nothing."""


class Outline(NamedTuple):
    """The least priority of what ran when the trial began, and of what had run for the least time; whether
    anything was leaving. ``NOTHING``: there was none. ``ends``: whether any end is foreseeable."""

    lowest: int
    lowest_ripe: int
    leaving: bool
    ends: bool

    def helps(self, priority: int, *, reclaims: bool = False) -> bool:
        """Whether any of them may have to give way to this priority, or does so already. ``reclaims``: to
        one whose queue may take back what it lent from whatever priority."""
        if self.leaving or self.lowest < priority or self.lowest_ripe <= priority:
            return True
        return reclaims and self.lowest_ripe < NOTHING


class Starts:
    """Moments in milliseconds, of which the first is asked for. What is removed stays in the heap until it
    comes up or makes up half of it."""

    def __init__(self) -> None:
        self._heap: list[int] = []
        self._gone: Counter[int] = Counter()
        self._removed = 0

    def add(self, moment_ms: int) -> None:
        heappush(self._heap, moment_ms)

    def remove(self, moment_ms: int) -> None:
        """One that was added."""
        self._gone[moment_ms] += 1
        self._removed += 1
        if 2 * self._removed > len(self._heap):
            self._heap = sorted((Counter(self._heap) - self._gone).elements())
            self._gone.clear()
            self._removed = 0
        while self._heap and self._heap[0] in self._gone:
            self._take_first()

    def _take_first(self) -> None:
        first = heappop(self._heap)
        self._removed -= 1
        self._gone[first] -= 1
        if not self._gone[first]:
            del self._gone[first]

    @property
    def first_ms(self) -> int | None:
        """None = there is none."""
        return self._heap[0] if self._heap else None


class RunningSummary:
    """What an outline is made from, kept while workloads come and go: start times by priority, and how many
    are leaving or have an end that is foreseeable."""

    def __init__(self, running: Iterable[RunningView] = ()) -> None:
        self._starts: dict[int, Starts] = {}
        self._leaving = 0
        self._ending = 0
        for one in running:
            self.add(one)

    def add(self, one: RunningView) -> None:
        """It holds places from now on."""
        starts = self._starts.get(one.workload.priority)
        if starts is None:
            starts = self._starts[one.workload.priority] = Starts()
        starts.add(one.started_ms)
        self._count(one, 1)

    def remove(self, one: RunningView) -> None:
        """One that was added does so no more."""
        starts = self._starts[one.workload.priority]
        starts.remove(one.started_ms)
        if starts.first_ms is None:
            del self._starts[one.workload.priority]
        self._count(one, -1)

    def _count(self, one: RunningView, sign: int) -> None:
        self._leaving += sign * one.leaving
        self._ending += sign * (one.workload.expected_seconds is not None or one.ends_ms is not None)

    def outline(self, ripe_ms: int) -> Outline:
        """``ripe_ms``: what started then or before has run for the least time."""
        firsts = [(priority, starts.first_ms) for priority, starts in self._starts.items()]
        ripe = [priority for priority, first_ms in firsts if first_ms is not None and first_ms <= ripe_ms]
        return Outline(
            min(self._starts, default=NOTHING),
            min(ripe, default=NOTHING),
            self._leaving > 0,
            self._ending > 0,
        )
