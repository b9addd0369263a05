"""All that one cycle looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scheduler.core.catalogue import Catalogue
from scheduler.core.fragmentation import Fragmentation
from scheduler.core.layout import ModelKey
from scheduler.core.mix import USUAL
from scheduler.core.pool import Pool
from scheduler.core.types import Assignment, NodeView, QueueView, RunningView, WorkloadView


@dataclass(frozen=True)
class Snapshot:
    """``pool`` holds the nodes with everything that is on them: the placements of ``running``, and processes
    that still stop although nobody holds their places any more. A cycle leaves the pool as it was.

    ``mix``: what usually comes, to judge fragmentation by. ``held``: millis per queue and model, for who
    keeps count; None = as ``running`` says.
    """

    pool: Pool
    queues: tuple[QueueView, ...]
    pending: tuple[WorkloadView, ...]
    running: tuple[RunningView, ...] = ()
    mix: Fragmentation = USUAL
    held: Mapping[tuple[str, ModelKey], int] | None = None


def take_snapshot(
    nodes: Sequence[NodeView],
    queues: Sequence[QueueView],
    pending: Sequence[WorkloadView],
    running: Sequence[RunningView] = (),
    lingering: Sequence[Assignment] = (),
    catalogue: Catalogue | None = None,
) -> Snapshot:
    """A snapshot with a new pool. Who runs many cycles keeps the pool instead, and tells it what changes."""
    pool = Pool(nodes, catalogue or Catalogue(()))
    for workload in running:
        pool.occupy(workload.placement)
    pool.occupy(lingering)
    return Snapshot(pool, tuple(queues), tuple(pending), tuple(running))
