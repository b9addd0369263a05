"""Numbers as short rows of blocks."""

from __future__ import annotations

from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"
FULL, EMPTY = "█", "░"
WHOLE_MILLIS = 1000


def sparkline(percents: Sequence[int | None]) -> str:
    """One block per value from 0 to 100; a dot where there is none."""
    return "".join("·" if value is None else LEVELS[_level(value)] for value in percents)


def _level(percent: int) -> int:
    return min(len(LEVELS) - 1, max(0, percent * len(LEVELS) // 100))


def bar(part: float, whole: float, width: int = 6) -> str:
    """``███░░░  50%``; empty where there is nothing to be a part of. What is above zero shows."""
    if whole <= 0:
        return ""
    ratio = min(1.0, max(0.0, part / whole))
    filled = max(1 if ratio > 0 else 0, round(ratio * width))
    return f"{FULL * filled}{EMPTY * (width - filled)} {round(100 * ratio):3d}%"


def devices(millis: int | None) -> str:
    """Thousandths of devices as devices: ``1500`` as ``1.5``."""
    return "" if millis is None else f"{millis / WHOLE_MILLIS:.10g}"
