"""All that one cycle looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.core.fragmentation.fragmentation import Fragmentation
from scheduler.core.fragmentation.workload_mix import USUAL
from scheduler.core.model.catalogue import Catalogue
from scheduler.core.model.types import Assignment, NodeView, QueueView, RunningView, WorkloadView
from scheduler.core.placement.outline import RunningSummary
from scheduler.core.pool.pool import Pool
from scheduler.core.quota.quota import QuotaTree


@dataclass(frozen=True)
class Snapshot:
    """``pool`` holds the nodes with everything that is on them: the placements of ``running``, and processes
    that still stop although nobody holds their places any more. A cycle leaves the pool as it was.

    ``workload_mix``: what usually comes, to judge fragmentation by. ``books``: the quota tree with what
    ``running`` holds, from who keeps it from cycle to cycle; None = made from ``running``.
    ``flexible``: whether any of ``running`` may be resized or moved; who knows that none may saves looking
    for it. ``summary``: that of ``running``, likewise kept; None = made from it.
    """

    pool: Pool
    queues: tuple[QueueView, ...]
    pending: tuple[WorkloadView, ...]
    running: tuple[RunningView, ...] = ()
    workload_mix: Fragmentation = USUAL
    books: QuotaTree | None = None
    flexible: bool = True
    summary: RunningSummary | None = None


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
