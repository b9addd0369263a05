"""Which files and folders of ended work have been kept for long enough."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DAY_MS = 86_400_000
FRESH_MS = 3_600_000
"""What was used within the last hour is never dropped: its user may not have told yet."""


@dataclass(frozen=True)
class Kept:
    """A file or folder, how much it holds and when it was used last (milliseconds since the epoch)."""

    path: Path
    size_bytes: int
    used_ms: int


def expired(found: Iterable[Kept], now_ms: int, keep_days: float, keep_bytes: int) -> list[Path]:
    """Those unused for more than ``keep_days``, and the longest unused ones while all together hold more than
    ``keep_bytes``. 0 = no limit."""
    oldest_first = sorted(found, key=lambda kept: (kept.used_ms, kept.path))
    excess = sum(kept.size_bytes for kept in oldest_first) - keep_bytes if keep_bytes else 0
    dropped = []
    for kept in oldest_first:
        age_ms = now_ms - kept.used_ms
        is_old = keep_days > 0 and age_ms > keep_days * DAY_MS
        if age_ms > FRESH_MS and (is_old or excess > 0):
            dropped.append(kept.path)
            excess -= kept.size_bytes
    return dropped


def look(path: Path) -> Kept | None:
    """The file, or the folder with all that is in it; None where it cannot be read, or is gone."""
    size_bytes, used_ns = 0, 0
    try:
        for part in [path, *path.rglob("*")] if path.is_dir() else [path]:
            found = part.lstat()
            size_bytes += 0 if part.is_dir() else found.st_size
            used_ns = max(used_ns, found.st_mtime_ns)
    except OSError:  # it may go or change right now: there is another time
        return None
    return Kept(path, size_bytes, used_ns // 1_000_000)
