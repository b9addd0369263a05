"""What free capacity of a node is good for, by the usual requests that its device model may serve."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from scheduler.core.fragmentation.cutting_stock import GRAIN_MILLIS, worth_of_free

WHOLE_MILLIS = 1000


class Usual(NamedTuple):
    """A request: how often it comes, its CPU, how many devices it takes and how much of each."""

    weight: float
    cpu_millis: int
    devices: int
    share_millis: int


class UsableCapacity:
    """Made from the usual requests for devices of one model."""

    def __init__(self, tasks: Sequence[Usual]) -> None:
        taken = sum(task.weight * task.devices * task.share_millis for task in tasks)
        needs = sorted(
            (
                task.cpu_millis / (task.devices * task.share_millis),
                task.weight * task.devices * task.share_millis,
            )
            for task in tasks
        )
        self._needs = [need for need, _ in needs]
        self._above = _sums_from([weight / taken for _, weight in needs])
        self._above_by_need = _sums_from([weight / taken / need if need else 0.0 for need, weight in needs])
        shares: dict[int, float] = {}
        for task in tasks:
            if task.devices == 1 and task.share_millis < WHOLE_MILLIS:
                shares[task.share_millis] = shares.get(task.share_millis, 0.0) + task.weight
        self._worth = worth_of_free(shares)

    def short_millis(self, cpu_free_millis: int, free_millis: int) -> float:
        """Of the free devices, how much would be left over when the CPU runs out, if the node were filled
        with one kind of request; on average over the kinds, by the devices that they take."""
        if not free_millis or not self._needs:
            return 0.0
        offered = cpu_free_millis / free_millis
        first = bisect_right(self._needs, offered)
        return free_millis * (self._above[first] - offered * self._above_by_need[first])

    def worthless_millis(self, free_millis: tuple[int, ...]) -> float:
        """Of the free devices, how much cannot be cut into usual shares that make good use of it."""
        worth = self._worth
        wasted = 0.0
        for free in free_millis:
            part = free % WHOLE_MILLIS
            wasted += part - WHOLE_MILLIS * worth[part // GRAIN_MILLIS]
        return wasted


def _sums_from(values: Sequence[float]) -> list[float]:
    """For each position the sum from there to the end, and 0 for the end itself."""
    return [*accumulate(reversed(values), initial=0.0)][::-1]
