"""A cycle as it is run outside of tests."""

from __future__ import annotations

from scheduler.core.cycle import run_cycle
from scheduler.core.model.types import Decision, Policy
from scheduler.core.placement.snapshot import Snapshot
from scheduler.translate.collector import collector_held


def decide(snapshot: Snapshot, policy: Policy, now_ms: int, *, keep: bool = False) -> list[Decision]:
    """``run_cycle`` with the garbage collector held back."""
    with collector_held():
        return run_cycle(snapshot, policy, now_ms, keep=keep)
