"""What a trial notes of each change, so that it can be undone."""

from __future__ import annotations

from typing import NamedTuple

from scheduler.core.model.types import Placement, RunningView, WorkloadView
from scheduler.core.pool.layout import ModelKey


class Change(NamedTuple):
    """Places that a workload got and lost. ``before``: how it was known to run before that; ``is_view``:
    whether that changed. ``is_whole``: whether those beside it notice."""

    workload: WorkloadView
    came: Placement
    went: Placement
    before: RunningView | None = None
    is_view: bool = True
    is_whole: bool = True


class Charge(NamedTuple):
    """Millis that a queue was charged with, on the quota books alone; below zero: that it was refunded."""

    queue: str
    model: ModelKey
    millis: int
