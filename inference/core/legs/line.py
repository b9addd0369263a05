"""Seconds by length, as a line through what was measured lately: no single odd time moves it far.

Lengths are parted by their powers of two, and of each part the latest times are kept. The line goes through
the medians of the parts: its slope is the median of the slopes between any two of them, each counted by how
far they lie apart (Theil and Sen's estimate).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MAX_LENGTH = 2**24
MAX_SECONDS = 3600.0
PER_PART = 24
"""Times kept of each of the 25 parts."""
LEAST_OF_PART = 3
"""Fewer times make no point."""
LEAST = 6
"""Fewer times make no line."""
AGE_SECONDS = 1800.0
"""What is older says nothing of the engines as they are."""


@dataclass(frozen=True)
class Line:
    """``base_seconds + length * slope_seconds``, both at least 0, as seen of ``shortest`` to ``longest``."""

    base_seconds: float
    slope_seconds: float
    shortest: float
    longest: float
    times: int

    def at(self, length: float) -> float:
        return self.base_seconds + self.slope_seconds * length


@dataclass(frozen=True)
class _Time:
    length: float
    seconds: float
    at_seconds: float


class Times:
    """The latest times of one kind of work."""

    def __init__(self) -> None:
        self._parts: dict[int, deque[_Time]] = {}

    def add(self, length: float, seconds: float, now_seconds: float) -> None:
        """One more. What is no time of anything is left out."""
        if not (1 <= length <= MAX_LENGTH and 0 <= seconds <= MAX_SECONDS):
            return
        part = self._parts.setdefault(int(length).bit_length(), deque(maxlen=PER_PART))
        part.append(_Time(length, seconds, now_seconds))

    def line(self, now_seconds: float) -> Line | None:
        """None while there is too little to go by."""
        fresh = [
            [time for time in part if now_seconds - time.at_seconds <= AGE_SECONDS]
            for part in self._parts.values()
        ]
        points = sorted(
            (median(time.length for time in part), median(time.seconds for time in part))
            for part in fresh
            if len(part) >= LEAST_OF_PART
        )
        times = sum(map(len, fresh))
        if not points or times < LEAST:
            return None
        slope = _slope(points)
        base = median(seconds - slope * length for length, seconds in points)
        if base < 0:
            base, slope = 0.0, median(seconds / length for length, seconds in points)
        return Line(base, slope, points[0][0], points[-1][0], times)


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """At least 0. Of a single point that of the line from nothing, which is right where it is."""
    if len(points) == 1:
        [(length, seconds)] = points
        return seconds / length
    slopes = sorted(
        ((later[1] - point[1]) / (later[0] - point[0]), math.log2(later[0] / point[0]))
        for number, point in enumerate(points)
        for later in points[number + 1 :]
    )
    half, seen = sum(weight for _, weight in slopes) / 2, 0.0
    for slope, weight in slopes:
        seen += weight
        if seen >= half:
            return max(0.0, slope)
    return max(0.0, slopes[-1][0])
