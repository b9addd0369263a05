"""Which adapters' files were there and are no more: an engine that is to read one of them again ends."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from common.clock import Clock

LOOK_SECONDS = 5.0
_CONFIG = "adapter_config.json"


class AdapterFiles:
    """Looks now and then. Of files that were never seen nothing is said: they may lie where only engines see
    them, or are refused by these."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: set[str] = set()
        self._gone: set[str] = set()
        self._next_seconds = float("-inf")

    async def gone(self, paths: Collection[str]) -> Collection[str]:
        """Those of these folders that are gone."""
        now_seconds = self._clock.monotonic_seconds()
        if now_seconds >= self._next_seconds:
            self._next_seconds = now_seconds + LOOK_SECONDS
            there = await asyncio.to_thread(_there, paths)
            self._seen = (self._seen | there) & set(paths)
            self._gone = self._seen - there
        return self._gone


def _there(paths: Collection[str]) -> set[str]:
    """Those that have a configuration, and those of which that cannot be told now."""
    there = set()
    for path in paths:
        try:
            (Path(path) / _CONFIG).stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass
        there.add(path)
    return there
