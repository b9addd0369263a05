"""Averages over equal spans of time of what changes at events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Series:
    """``values[name][i]``: the average from ``start_ms + i * step_ms`` on for ``step_ms``."""

    start_ms: int
    step_ms: int
    values: Mapping[str, npt.NDArray[np.float64]]

    def mean(self, name: str) -> float:
        """Over the whole time; 0.0 where there is no such series."""
        values = self.values.get(name)
        return float(values.mean()) if values is not None and len(values) else 0.0


class Recorder:
    """Takes what holds from now on, gives averages per span. Names are fixed from the start."""

    def __init__(self, names: Iterable[str], start_ms: int, end_ms: int, spans: int) -> None:
        self._index = {name: number for number, name in enumerate(names)}
        self._start_ms = start_ms
        self._end_ms = end_ms
        self._step_ms = max(1, -(-(end_ms - start_ms) // max(1, spans)))
        rows = max(1, -(-(end_ms - start_ms) // self._step_ms))
        self._sums = np.zeros((rows, len(self._index)))
        self._now = np.zeros(len(self._index))
        self._at_ms = start_ms

    def put(self, name: str, value: float) -> None:
        """From the time of the last ``advance`` on, it is this."""
        self._now[self._index[name]] = value

    def advance(self, now_ms: int) -> None:
        """What was put held until ``now_ms``. Nothing counts after the end."""
        until = min(now_ms, self._end_ms)
        while self._at_ms < until:
            row = (self._at_ms - self._start_ms) // self._step_ms
            edge = min(until, self._start_ms + (row + 1) * self._step_ms)
            self._sums[row] += self._now * (edge - self._at_ms)
            self._at_ms = edge

    def series(self) -> Series:
        """The averages; spans that were not reached are 0."""
        edges = self._start_ms + np.arange(len(self._sums) + 1) * self._step_ms
        lengths = np.diff(np.minimum(edges, self._end_ms)).clip(1)
        means = self._sums / lengths[:, None]
        return Series(self._start_ms, self._step_ms, {name: means[:, i] for name, i in self._index.items()})


def jain(shares: Iterable[float]) -> float:
    """Jain's fairness index (Jain, Chiu, Hawe 1984): 1.0 = all have the same, 1/n = one has everything."""
    values = list(shares)
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0
