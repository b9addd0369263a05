"""The lines that a training worker appends to ``events.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.vocabulary import MAX_NUMBER, MAX_TIME_MS, shortened

MAX_LINES = 32_768
"""Understood of one read of a few megabytes: a line of a worker has some 300 bytes."""
TYPES = ("message", "metrics", "checkpoint", "result", "error")
METRICS = (
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)


@dataclass(frozen=True)
class WorkerEvent:
    """One line. ``offset_bytes`` is where it begins; no other line of the file has the same."""

    offset_bytes: int
    type: str
    level: str
    created_at: int
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """The loss and accuracy values among the data."""
        found = {name: _number(self.data.get(name)) for name in METRICS}
        return {name: value for name, value in found.items() if value is not None}

    def count(self, name: str) -> int | None:
        """A non-negative whole number among the data; None also where it is larger than any count."""
        value = self.data.get(name)
        return value if _is_count(value) else None


def whole_lines(
    content: bytes, offset_bytes: int, most_lines: int = MAX_LINES
) -> tuple[list[WorkerEvent], int]:
    """The events in ``content``, which begins at ``offset_bytes`` of the file, and the offset after them.

    A line without its end is left for later; one that cannot be read becomes a warning, and so do all
    together that come after ``most_lines``: no worker writes so short ones.
    """
    events: list[WorkerEvent] = []
    start, whole = 0, content.rfind(b"\n") + 1
    for _ in range(most_lines):
        if start == whole:
            break
        end = content.find(b"\n", start)
        line = content[start:end]
        if line.strip():
            events.append(_event(line, offset_bytes + start))
        start = end + 1
    if start < whole:
        events.append(_warning(offset_bytes + start, f"{whole - start} bytes of lines too short to be read"))
    return events, offset_bytes + whole


def _event(line: bytes, offset_bytes: int) -> WorkerEvent:
    try:
        content = json.loads(line)
        data, created_at = content.get("data", {}), content["created_at"]
        if content["type"] not in TYPES or not isinstance(data, dict) or not _is_count(created_at):
            raise ValueError("unknown form")
        if 1000 * created_at > MAX_TIME_MS:
            raise ValueError("a time that never comes")
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()  # it will be stored
        level, message = str(content.get("level", "info")), shortened(str(content["message"]))
        return WorkerEvent(offset_bytes, content["type"], level, created_at, message, data)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return _warning(offset_bytes, "something unreadable")


def _warning(offset_bytes: int, what: str) -> WorkerEvent:
    text = f"the worker wrote {what} at byte {offset_bytes} of its events"
    return WorkerEvent(offset_bytes, "message", "warn", 0, text)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def last_of(events: Iterable[WorkerEvent], type_: str) -> WorkerEvent | None:
    """The newest event of a type."""
    found = None
    for event in events:
        if event.type == type_:
            found = event
    return found


def result_csv(events: Sequence[WorkerEvent]) -> str:
    """The metrics by step, as OpenAI's result files have them; empty where there is no value."""
    columns = (*METRICS[:4],)
    rows: dict[int, dict[str, float]] = {}
    for event in events:
        step = event.count("step")
        if event.type == "metrics" and step is not None:
            rows.setdefault(step, {}).update(event.metrics)
    lines = ["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"]
    for step, values in sorted(rows.items()):
        lines.append(",".join([str(step), *(_cell(values.get(column)) for column in columns)]))
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"
