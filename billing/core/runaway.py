"""When a key spends far faster than it ever did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HISTORY_MS = 7 * DAY_MS
"""So much of what was before the last hour is its history."""


@dataclass(frozen=True)
class Rule:
    """``factor``: times the most that it spent in any hour of its history. ``least``: micro-credits in an
    hour; with less nobody is looked at."""

    factor: int
    least: int

    def is_suspect(self, spent: int) -> bool:
        """Whether its history matters."""
        return spent >= self.least

    def is_runaway(self, spent: int, history: Mapping[int, int], now_ms: int) -> bool:
        """Whether what was ``spent`` in the last hour is out of the ordinary. ``history``: micro-credits by
        the beginning of their hours (milliseconds). Whose first use was less than a day ago has none yet."""
        is_known = any(begin_ms <= now_ms - DAY_MS for begin_ms in history)
        return is_known and self.is_suspect(spent) and spent > self.factor * usual(history)


def usual(history: Mapping[int, int]) -> int:
    """The most that was spent in any hour."""
    return max(history.values(), default=0)
