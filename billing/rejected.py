"""Usage that cannot be billed, kept on disk for people to look at: never tried again, never lost."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import Counter

from common.settings import Settings
from common.telemetry import get_logger
from common.wire import REJECTED_FILE

REJECTED = Counter(
    "computility_usage_rejected", "Usage that could not be billed and was set aside", ("kind",)
)
_log = get_logger(__name__)


class RejectedUsage:
    """One line of JSON for each, ``{"reason", "event"}``, as gateways keep theirs. ``folder`` is made when it
    is first needed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / REJECTED_FILE

    async def keep(self, event: Mapping[str, Any], reason: str) -> None:
        """Return when it is on disk. Raises ``OSError``."""
        line = json.dumps({"reason": reason, "event": dict(event)}) + "\n"
        await asyncio.to_thread(self._append, line.encode())
        REJECTED.labels(str(event.get("kind", ""))).inc()
        _log.error("usage cannot be billed", event_id=event.get("id"), reason=reason, file=str(self._path))

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def rejected_usage(settings: Settings) -> RejectedUsage:
    """What the control process keeps: beside the spools of gateways, so that it is counted with theirs."""
    return RejectedUsage(settings.home / "spool" / "control")
