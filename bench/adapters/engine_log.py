"""When an engine took in an adapter, from its own log: all that tells whether a request found it there."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from pathlib import Path
from typing import Any

_TAKEN_IN = re.compile(r"^(\d+\.\d+) Adding lora\. .* int id: (\d+)$", re.MULTILINE)


def engine_environment(folder: Path) -> dict[str, str]:
    """Of an engine that notes in a file in ``folder`` each adapter that it takes in; else it logs as ever."""
    text = {"class": "logging.StreamHandler"}
    file = {"class": "logging.FileHandler", "filename": str(_file(folder)), "formatter": "time"}
    config: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"time": {"format": "%(created).6f %(message)s"}},
        "handlers": {"text": text, "file": file},
        "loggers": {
            "vllm": {"level": "INFO", "handlers": ["text"], "propagate": False},
            "vllm.lora.model_manager": {"level": "DEBUG", "handlers": ["file"], "propagate": False},
        },
    }
    path = folder / "engine-logging.json"
    path.write_text(json.dumps(config))
    return {"VLLM_LOGGING_CONFIG_PATH": str(path)}


class EngineLog:
    """``ids``: what the engine calls adapters, by their names."""

    def __init__(self, folder: Path, ids: dict[str, int]) -> None:
        self._ids = ids
        self._times: dict[int, list[float]] = {}
        for at, number in _TAKEN_IN.findall(_file(folder).read_text()):
            self._times.setdefault(int(number), []).append(float(at))

    def took_in(self, name: str, after: float, before: float) -> bool:
        """Whether it did between these times (seconds since the epoch)."""
        times = self._times.get(self._ids[name], [])
        at = bisect_left(times, after)
        return at < len(times) and times[at] <= before

    def number(self, after: float) -> int:
        """So many were taken in since."""
        return sum(at >= after for times in self._times.values() for at in times)


def _file(folder: Path) -> Path:
    return folder / "engine-adapters.log"
