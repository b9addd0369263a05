"""Times for people: when something is expected, and how far away that is."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from common.clock import SYSTEM_CLOCK, Clock, rfc3339
from common.errors import InvalidInput

MINUTE, HOUR, DAY = 60, 3600, 86_400
_SPAN = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,7})m)?(?:(\d{1,9})s?)?", re.ASCII)


def parse_span(text: str, option: str) -> float:
    """Seconds of ``90``, ``90s``, ``15m``, ``1h30m`` or ``7d``. Raises ``InvalidInput`` naming the option."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or not text.strip():
        raise InvalidInput(
            f"{option}: {text[:40]!r} is no span of time; write 90s, 15m, 1h30m or 7d", param=option
        )
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(days * DAY + hours * HOUR + minutes * MINUTE + seconds)


def begin_of(begin: str | None, since: str, clock: Clock = SYSTEM_CLOCK) -> str | None:
    """Where a report begins: as ``--from`` says, or so long ago as ``--since``. Raises ``InvalidInput`` for
    both."""
    if since and begin:
        raise InvalidInput("--since and --from: choose one of them", param="--since")
    if not since:
        return begin
    return rfc3339(max(0, clock.now_ms() - round(parse_span(since, "--since") * 1000)))


def clock_time(moment_ms: int, now_ms: int) -> str:
    """``14:20`` on this machine's clock; with the date where it is more than half a day away."""
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC).astimezone()
    return f"{moment:%H:%M}" if abs(moment_ms - now_ms) < 12 * HOUR * 1000 else f"{moment:%b %d %H:%M}"


def span(seconds: float) -> str:
    """``35 min``, ``2 h 10 min``, ``3 days``."""
    whole = round(abs(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / MINUTE)
    if minutes < 100:
        return f"{minutes} min"
    if whole < 2 * DAY:
        hours, rest = divmod(minutes, 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{round(whole / DAY)} days"


def expected(moment_ms: int | None, now_ms: int) -> str:
    """``about 14:20, in 35 min``; ``now`` for what is due; empty for what is not known."""
    if moment_ms is None:
        return ""
    ahead_seconds = (moment_ms - now_ms) / 1000
    if ahead_seconds < 1:
        return "now"
    return f"about {clock_time(moment_ms, now_ms)}, in {span(ahead_seconds)}"


def since(moment_ms: int | None, now_ms: int) -> str:
    """``since 13:45, 35 min ago``."""
    if moment_ms is None:
        return ""
    return f"since {clock_time(moment_ms, now_ms)}, {span((now_ms - moment_ms) / 1000)} ago"
