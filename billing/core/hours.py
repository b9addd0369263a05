"""Moments as clocks and calendars of a time zone show them: for times of day, and periods of volume."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal

Period = Literal["day", "month", "year"]
_CHARACTERS = {"day": 10, "month": 7, "year": 4}
_MS = timedelta(milliseconds=1)


def local_ms(at_ms: int, zone: tzinfo) -> int:
    """The moment (milliseconds since the epoch) as if what clocks of the zone show were UTC. An hour that
    summer time leaves out is never shown, one that comes twice is shown twice."""
    offset = datetime.fromtimestamp(at_ms // 1000, zone).utcoffset()
    return at_ms + (offset // _MS if offset is not None else 0)


def period_of(at_ms: int, period: Period, zone: tzinfo = UTC) -> str:
    """The period that a moment is in, by the zone's calendar: ``2026-03-29``, ``2026-03`` or ``2026``."""
    return datetime.fromtimestamp(at_ms // 1000, zone).date().isoformat()[: _CHARACTERS[period]]
