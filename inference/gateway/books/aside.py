"""Usage that cannot be posted as it is: kept with its reason, and posted once somebody has mended it.

One file in each spool folder, ``rejected.ndjson``, a line for each event: ``{"reason": …, "event": …}``. A
person (or a newer control) may put right what is wrong; the shipper tries the lines again when the gateway
starts and whenever the file has changed, and takes out those that control has posted.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from billing.core.events import UsageEvent
from common.errors import InvalidInput
from common.telemetry import get_logger
from common.wire import REJECTED_FILE
from inference.gateway import metrics

_log = get_logger("gateway.aside")
_writing = threading.Lock()
"""Held while a file of this process is changed; other processes are kept out by the folder's lock."""


@dataclass(frozen=True)
class AsideLine:
    """A line of the file, and its event where it is one."""

    text: str
    event: UsageEvent | None


def keep_rejected(folder: Path, rejected: Sequence[tuple[object, str]]) -> None:
    """Set (event, reason) aside; durable when this returns. Raises ``OSError`` when the disk refuses."""
    lines = [json.dumps({"reason": reason, "event": event}) + "\n" for event, reason in rejected]
    with _writing, (folder / REJECTED_FILE).open("ab", buffering=0) as file:
        size = file.tell()
        try:
            _write_all(file, "".join(lines).encode())
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)  # half a line would spoil the next one
            raise


def _write_all(file: FileIO, data: bytes) -> None:
    while data:
        data = data[file.write(data) :]


async def set_aside(folder: Path, rejected: list[tuple[Any, str]]) -> None:
    """Keep what cannot be posted, with its reason, for a person to mend; told in a metric and the log."""
    if not rejected:
        return
    await asyncio.to_thread(keep_rejected, folder, rejected)
    metrics.USAGE_SET_ASIDE.inc(len(rejected))
    for event, reason in rejected:
        id_ = event.get("id") if isinstance(event, dict) else None
        _log.error("usage is set aside", event_id=id_, reason=reason, folder=str(folder))


def read_rejected(folder: Path) -> list[AsideLine]:
    """All that was set aside in the folder, in its order."""
    with _writing:
        return [AsideLine(line, _event_in(line)) for line in _lines(folder)]


def take_out(folder: Path, posted: Collection[str]) -> None:
    """Leave out the lines whose text is in ``posted``; what came meanwhile stays."""
    with _writing:
        left = [line for line in _lines(folder) if line not in posted]
        if not left:
            (folder / REJECTED_FILE).unlink(missing_ok=True)
            return
        draft = folder / f"{REJECTED_FILE}.{os.getpid()}.tmp"
        with draft.open("w") as file:
            file.write("".join(f"{line}\n" for line in left))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / REJECTED_FILE)


def signature(folder: Path) -> tuple[int, int] | None:
    """Changes with the file; None where nothing is set aside."""
    try:
        found = (folder / REJECTED_FILE).stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def rejected_bytes(spools: Path) -> int:
    """The size of all that was set aside in any spool folder."""
    return sum(path.stat().st_size for path in spools.glob(f"*/{REJECTED_FILE}"))


def _lines(folder: Path) -> list[str]:
    try:
        text = (folder / REJECTED_FILE).read_text(errors="backslashreplace")
    except FileNotFoundError:
        return []
    return [line for line in text.split("\n") if line]


def _event_in(line: str) -> UsageEvent | None:
    try:
        content: Any = json.loads(line)
        event = content["event"]
        return UsageEvent.from_dict(json.loads(event) if isinstance(event, str) else event)
    except (ValueError, TypeError, LookupError, RecursionError, AttributeError, InvalidInput):
        return None
