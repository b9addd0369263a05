"""Months of a time zone, as billing periods."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from billing.core.invoicing import Period


def month_of(text: str, zone: str = "UTC") -> Period:
    """A month, ``2026-03``, of a zone. Raises ``ValueError``, or ``OverflowError`` at the end of time."""
    first = datetime.strptime(text, "%Y-%m").replace(tzinfo=ZoneInfo(zone))
    following = (first + timedelta(days=31)).replace(day=1)
    if first.strftime("%Y-%m") != text or first.timestamp() < 0:
        raise ValueError(text)
    last = following - timedelta(days=1)
    return Period(
        begin_ms=int(first.timestamp()) * 1000,
        end_ms=int(following.timestamp()) * 1000,
        zone=zone,
        first_day=first.date().isoformat(),
        last_day=last.date().isoformat(),
    )
