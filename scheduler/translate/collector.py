"""When garbage is collected: never within a cycle, and not over what is kept."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = (50_000, 20, 100)
"""So many new objects, young collections and middle ones before the next collection (Python: 700, 10, 10). A
pass makes views and decisions by the ten thousand, which refer to each other in no circles."""

LARGE_WORLD = 2_000
"""Workloads from which on a world is set apart: one that has fewer is looked through in no time."""


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


def set_world_apart() -> None:
    """Collect once, look no more through what is there now, which is kept for as long as the process runs,
    and collect less often. With 60,000 workloads a collection takes seconds, in which nobody is answered.
    What is replaced later is freed all the same: it refers to nothing in circles."""
    gc.set_threshold(*THRESHOLDS)
    gc.unfreeze()
    gc.collect()
    gc.freeze()
