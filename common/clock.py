"""The one place that reads the wall clock. Everything else is given a ``Clock`` or a number."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...

    def monotonic_seconds(self) -> float:
        """Seconds that never go backwards; only differences mean anything."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_seconds(self) -> float:
        return time.monotonic()


class VirtualClock:
    """A clock that moves only when told to: for tests and simulation."""

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_seconds(self) -> float:
        return self._now_ms / 1000

    def advance(self, seconds: float) -> None:
        """Move forward by ``seconds`` (>= 0)."""
        if seconds < 0:
            raise ValueError("a clock does not go backwards")
        self._now_ms += round(seconds * 1000)


SYSTEM_CLOCK = SystemClock()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SHOWN_CHARACTERS = 40


def rfc3339(ms: int) -> str:
    """``ms`` since the epoch as RFC 3339 in UTC with milliseconds, e.g. ``2026-11-21T07:00:00.000Z``."""
    moment = _EPOCH + ms * _MILLISECOND
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> int:
    """Milliseconds since the epoch for an RFC 3339 text; ``ValueError`` when it is none or has no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        shown = f"{text[:_SHOWN_CHARACTERS]!r}"
        raise ValueError(f"{shown} is no moment; write e.g. 2026-01-01T00:00:00Z") from error
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write e.g. 2026-01-01T00:00:00Z")
    return (moment - _EPOCH) // _MILLISECOND
