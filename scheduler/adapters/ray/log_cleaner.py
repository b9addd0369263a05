"""Removes the logs of processes that ended long ago."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from common.bounded_log import BoundedLog
from common.retention import FRESH_MS, expired, look

WORKLOADS = "workloads"
FOLDERS = (f"{WORKLOADS}/*", "*.*")
"""``workloads/<uid>``; earlier versions wrote to ``<project>.<workload>``, which two may share."""
LOG = "[0-9]*-[0-9]*.log*"
"""``<attempt>-<rank>.log``, and what was moved out of it."""


class LogCleaner:
    """Sweeps ``logs``, where agents of several nodes may write when their home is shared: each touches the
    logs of its own live processes, so that none takes them for old. ``days`` and ``size_bytes``: see
    ``settings.retention``."""

    def __init__(self, logs: Path, days: float, size_bytes: int) -> None:
        self._logs = logs
        self._days = days
        self._size_bytes = size_bytes

    def sweep(self, live: Collection[Path], now_ms: int) -> list[Path]:
        """Drop what is due; returns what was dropped."""
        live = {path for log in live for path in BoundedLog(log).files()}
        for path in live:
            with suppress(OSError):
                os.utime(path, (now_ms / 1000, now_ms / 1000))
        found = [kept for path in self._found() if path not in live and (kept := look(path))]
        dropped = expired(found, now_ms, self._days, self._size_bytes)
        for path in dropped:
            with suppress(OSError):  # it is tried again in the next sweep
                path.unlink()
        return dropped

    def _found(self) -> Iterator[Path]:
        for folders in FOLDERS:
            yield from self._logs.glob(f"{folders}/{LOG}")

    def remove_empty_folders(self, now_ms: int) -> None:
        """Those of workloads without logs; not while a process may be starting in one."""
        for folder in (folder for folders in FOLDERS for folder in self._logs.glob(folders)):
            with suppress(OSError):  # not empty, or gone
                if folder.is_dir() and now_ms - folder.stat().st_mtime * 1000 > FRESH_MS:
                    folder.rmdir()
