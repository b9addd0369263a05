"""Windows of the week, as people write them: ``Mon-Fri 08:00-20:00``. Pure: the local time is given."""

from __future__ import annotations

import re
from dataclasses import dataclass

from common.errors import InvalidInput

MINUTE_MS = 60_000
DAY_MINUTES = 24 * 60
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(?:([A-Za-z,-]+) +)?(\d{1,2}):(\d\d) *- *(\d{1,2}):(\d\d)", re.ASCII)
_EPOCH_WEEKDAY = 3
"""1 January 1970 was a Thursday; Monday is 0."""


@dataclass(frozen=True, slots=True)
class WeeklyWindow:
    """Every week on ``days`` (0 = Monday), from ``start_minute`` of the day until ``end_minute`` (of the next
    day where that is not later)."""

    days: frozenset[int]
    start_minute: int
    end_minute: int

    def open_at(self, local_ms: int) -> bool:
        """Whether the window is open at this local time."""
        day, minute = divmod(local_ms // MINUTE_MS, DAY_MINUTES)
        weekday = (day + _EPOCH_WEEKDAY) % 7
        if self.start_minute < self.end_minute:
            return weekday in self.days and self.start_minute <= minute < self.end_minute
        began_today = weekday in self.days and minute >= self.start_minute
        return began_today or ((weekday - 1) % 7 in self.days and minute < self.end_minute)

    def minutes(self) -> frozenset[int]:
        """All minutes of the week in which it is open."""
        length = (self.end_minute - self.start_minute - 1) % DAY_MINUTES + 1
        begins = (day * DAY_MINUTES + self.start_minute for day in self.days)
        return frozenset((begin + n) % (7 * DAY_MINUTES) for begin in begins for n in range(length))


def parse_weekly(text: str) -> WeeklyWindow:
    """``"Mon-Fri 08:00-20:00"``, ``"Sat,Sun 10:00-18:00"``, ``"22:00-06:00"`` (every day).

    ``InvalidInput`` where the text is none of these.
    """
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"{text!r} is not a window; write e.g. Mon-Fri 08:00-20:00", param="window")
    start, end = _minute(match[2], match[3], text), _minute(match[4], match[5], text)
    return WeeklyWindow(_days(match[1] or "Mon-Sun", text), start % DAY_MINUTES, end)


def _minute(hour: str, minute: str, text: str) -> int:
    value = int(hour) * 60 + int(minute)
    if int(minute) > 59 or value > DAY_MINUTES:
        raise InvalidInput(f"{text!r}: {hour}:{minute} is no time of day", param="window")
    return value


def _days(text: str, window: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.lower().split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise InvalidInput(f"{window!r}: {part!r} is no day; write Mon to Sun", param="window")
        start = _DAYS.index(first)
        days.update((start + n) % 7 for n in range((_DAYS.index(last or first) - start) % 7 + 1))
    return frozenset(days)
