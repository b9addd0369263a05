"""The worker's event log: one JSON object per line; a restarted worker tells no step twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from common.clock import Clock

Event = dict[str, Any]
# An event of these types is about a step, and is written once per step and set of data keys.
_STEP_TYPES = ("metrics", "checkpoint")


class EventLog:
    """Appends to ``path``. A line that a killed worker left half-written is cut off first."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._events = _read_whole_lines(path)
        self._told = {key for event in self._events if (key := _step_key(event))}

    def write(self, kind: str, message: str, level: str = "info", **data: Any) -> None:
        """Append one event, unless a run before this one has told the same about the same step."""
        event: Event = {
            "type": kind,
            "level": level,
            "created_at": self._clock.now_ms() // 1000,
            "message": message,
            "data": data,
        }
        key = _step_key(event)
        if key and key in self._told:
            return
        line = json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n"
        with self._path.open("ab", buffering=0) as stream:
            stream.write(line.encode())
            os.fsync(stream.fileno())
        self._events.append(event)
        if key:
            self._told.add(key)

    def result(self) -> Event | None:
        """The result that an earlier run has written, if any."""
        return next((event for event in self._events if event["type"] == "result"), None)


def _step_key(event: Event) -> tuple[Any, ...] | None:
    if event["type"] not in _STEP_TYPES:
        return None
    return (event["type"], event["data"].get("step"), tuple(sorted(event["data"])))


def _read_whole_lines(path: Path) -> list[Event]:
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return [json.loads(line) for line in whole.splitlines()]
