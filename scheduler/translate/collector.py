"""When garbage is collected: never within a cycle, and not over what is kept."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
    """Collect once, and look no more through what is there now, which is kept for as long as the process
    runs. With 60,000 workloads a collection takes seconds, in which nobody is answered. What is replaced
    later is freed all the same: it refers to nothing in circles."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
