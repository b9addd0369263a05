"""Events of a job, each recorded once however often its maker runs again."""

from __future__ import annotations

from typing import Literal

from common.clock import Clock
from common.ids import derived_id
from common.resources import FineTune
from common.store.port import Event, Store
from finetune.core.worker_events import WorkerEvent

Reason = Literal[
    "Created",
    "FilesValidated",
    "Queued",
    "Running",
    "Registered",
    "CancelRequested",
    "Succeeded",
    "Failed",
    "Cancelled",
]

# Events of one millisecond sort by their ids, so these numbers give the order in which they happen.
_ORDER: dict[Reason, int] = {
    "Created": 0,
    "FilesValidated": 1,
    "Queued": 2,
    "Running": 3,
    "Registered": 6,
    "CancelRequested": 7,
    "Succeeded": 8,
    "Failed": 8,
    "Cancelled": 8,
}
_WORKER_ORDER = 5
_LEVELS: dict[str, Literal["info", "warning", "error"]] = {"warn": "warning", "error": "error"}


async def note(store: Store, clock: Clock, job: FineTune, reason: Reason, message: str) -> None:
    """Record an event of ours: each reason once per job."""
    level: Literal["info", "error"] = "error" if reason == "Failed" else "info"
    event_id = f"{_prefix(job)}-{_ORDER[reason]}"
    await store.record(
        Event(event_id, clock.now_ms(), level, reason, message, "FineTune", job.name, job.project)
    )


async def record_worker_event(store: Store, clock: Clock, job: FineTune, event: WorkerEvent) -> None:
    """Record a line of the worker: each place in its file once."""
    await store.record(
        Event(
            id=f"{_prefix(job)}-{_WORKER_ORDER}-{event.offset_bytes:012d}",
            time_ms=event.created_at * 1000 or clock.now_ms(),
            level=_LEVELS.get(event.level, "info"),
            reason=event.type.capitalize(),
            message=event.message,
            kind="FineTune",
            name=job.name,
            project=job.project,
            data=dict(event.data) if event.type == "metrics" else {},
        )
    )


def _prefix(job: FineTune) -> str:
    return derived_id("ftevent", job.metadata.uid)
