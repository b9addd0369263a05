"""Events of a batch, each recorded once however often its maker runs again."""

from __future__ import annotations

from typing import Literal

from common.clock import Clock
from common.ids import derived_id
from common.resources import Batch
from common.store.port import Event, Store

Reason = Literal[
    "Created", "Validated", "Waits", "CancelRequested", "Completed", "Expired", "Cancelled", "Failed"
]
_LEVELS: dict[Reason, Literal["info", "warning", "error"]] = {
    "Waits": "warning",
    "Expired": "warning",
    "Failed": "error",
}


async def note(store: Store, clock: Clock, batch: Batch, reason: Reason, message: str) -> None:
    """Record an event: each reason once per batch."""
    event_id = derived_id("batchevent", batch.metadata.uid, reason)
    level = _LEVELS.get(reason, "info")
    await store.record(
        Event(event_id, clock.now_ms(), level, reason, message, "Batch", batch.name, batch.project)
    )
