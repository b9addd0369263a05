"""What usually comes: the requests by which it is judged how much a placement strands."""

from __future__ import annotations

from collections.abc import Iterable

from scheduler.core.fragmentation.fragmentation import Fragmentation, TypicalTask, typical_tasks
from scheduler.core.model.types import WHOLE_MILLIS, WorkloadView

USUAL = Fragmentation(
    (
        TypicalTask(0.2, 0, 1, 500),
        TypicalTask(0.4, 0, 1, WHOLE_MILLIS),
        TypicalTask(0.1, 0, 2, WHOLE_MILLIS),
        TypicalTask(0.1, 0, 4, WHOLE_MILLIS),
        TypicalTask(0.2, 0, 8, WHOLE_MILLIS),
    )
)
"""Where nothing is known yet: one device, whole or half, and powers of two up to a node."""


def mix_of(workloads: Iterable[WorkloadView]) -> Fragmentation:
    """The mix of these workloads' ranks; ``USUAL`` where there are none."""
    tasks = [
        TypicalTask(
            float(role.replicas),
            role.request.cpu_millis,
            role.request.count,
            role.request.share_millis if role.request.count else 0,
            role.request.models,
        )
        for workload in workloads
        for role in workload.roles
        if not role.request.by_equivalence
    ]
    return Fragmentation(typical_tasks(tasks, coverage=1.0)) if tasks else USUAL
