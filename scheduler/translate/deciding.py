"""A cycle as it is run outside of tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from scheduler.core.cycle import run_cycle
from scheduler.core.model.types import Decision, Policy
from scheduler.core.placement.snapshot import Snapshot


def decide(snapshot: Snapshot, policy: Policy, now_ms: int, *, keep: bool = False) -> list[Decision]:
    """``run_cycle`` with the garbage collector held back."""
    with collector_held():
        return run_cycle(snapshot, policy, now_ms, keep=keep)


@contextmanager
def collector_held() -> Iterator[None]:
    """No garbage is collected meanwhile: a cycle makes many small objects that do not refer to each other in
    circles, and every collection in its midst would look through the whole pool."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
