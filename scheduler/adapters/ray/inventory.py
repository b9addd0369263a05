"""Which models and datasets lie on this node's disk, so that work can go to its data."""

from __future__ import annotations

import os
from pathlib import Path

FOLDERS = ("models", "datasets")
"""Below COMPUTILITY_HOME; each entry is one model or dataset."""
PERIOD_SECONDS = 30.0
MOST_NAMES = 2000
_HUB_PREFIXES = ("models--", "datasets--")


class Inventory:
    """Looks at the folders anew when its last look is half a minute old. One listing per folder, nothing is
    opened."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._names: tuple[str, ...] = ()
        self._looked_seconds: float | None = None

    def names(self, now_seconds: float) -> tuple[str, ...]:
        """Sorted; those of a hub cache (``models--org--name``) as ``org/name``."""
        if self._looked_seconds is None or now_seconds - self._looked_seconds >= PERIOD_SECONDS:
            self._looked_seconds = now_seconds
            found = {data_name(entry) for folder in FOLDERS for entry in _entries(self._home / folder)}
            self._names = tuple(sorted(found))[:MOST_NAMES]
        return self._names


def data_name(entry: str) -> str:
    """The name by which ``affinity.data`` knows a folder."""
    for prefix in _HUB_PREFIXES:
        if entry.startswith(prefix):
            return entry.removeprefix(prefix).replace("--", "/", 1)
    return entry


def _entries(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return []
