"""Events of a job, each recorded once however often its maker runs again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

from common.clock import Clock
from common.ids import derived_id
from common.resources import FineTune
from common.store.port import Event, Store
from common.vocabulary import MAX_NUMBER
from finetune.core.worker_events import WorkerEvent

Reason = Literal[
    "Created",
    "FilesValidated",
    "Queued",
    "Running",
    "EventsCut",
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
    "EventsCut": 4,
    "Registered": 6,
    "CancelRequested": 7,
    "Succeeded": 8,
    "Failed": 8,
    "Cancelled": 8,
}
_WORKER_ORDER = 5
_RECORDED_AT_ONCE = 500
MAX_DATA = 32
"""Numbers of one event that are kept; their names have at most so many characters, too."""
_LEVELS: dict[str, Literal["info", "warning", "error"]] = {"warn": "warning", "error": "error"}


async def note(store: Store, clock: Clock, job: FineTune, reason: Reason, message: str) -> None:
    """Record an event of ours: each reason once per job."""
    level: Literal["info", "error"] = "error" if reason == "Failed" else "info"
    event_id = f"{_prefix(job)}-{_ORDER[reason]}"
    await store.record(
        Event(event_id, clock.now_ms(), level, reason, message, "FineTune", job.name, job.project)
    )


async def note_stop(
    store: Store, clock: Clock, job: FineTune, attempt: int, reason: str, message: str
) -> None:
    """Record why the job may not run for now: each reason once after each attempt."""
    event_id = f"{_prefix(job)}-{_WORKER_ORDER}-stop-{attempt:06d}-{reason}"
    await store.record(
        Event(event_id, clock.now_ms(), "warning", reason, message, "FineTune", job.name, job.project)
    )


async def record_worker_events(
    store: Store, clock: Clock, job: FineTune, events: Sequence[WorkerEvent]
) -> None:
    """Record lines of the worker: each place in its file once, hundreds in one transaction."""
    for first in range(0, len(events), _RECORDED_AT_ONCE):
        part = events[first : first + _RECORDED_AT_ONCE]
        await store.record(*(_worker_event(clock, job, event) for event in part))


def _worker_event(clock: Clock, job: FineTune, event: WorkerEvent) -> Event:
    return Event(
        id=f"{_prefix(job)}-{_WORKER_ORDER}-{event.offset_bytes:012d}",
        time_ms=event.created_at * 1000 or clock.now_ms(),
        level=_LEVELS.get(event.level, "info"),
        reason=event.type.capitalize(),
        message=event.message,
        kind="FineTune",
        name=job.name,
        project=job.project,
        data=dict(_numbers(event)) if event.type == "metrics" else {},
    )


def _numbers(event: WorkerEvent) -> Iterator[tuple[str, object]]:
    """What a client can draw: few and small, so that no line fills the store."""
    fit = ((name, value) for name, value in event.data.items() if len(name) <= MAX_DATA)
    numbers = ((name, value) for name, value in fit if isinstance(value, int | float))
    return islice(((name, value) for name, value in numbers if abs(value) <= MAX_NUMBER), MAX_DATA)


def _prefix(job: FineTune) -> str:
    return derived_id("ftevent", job.metadata.uid)
