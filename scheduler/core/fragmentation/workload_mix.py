"""What usually comes: the requests by which it is judged how much a placement strands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from scheduler.core.fragmentation.fragmentation import Asked, Fragmentation, TypicalTask, typical_tasks
from scheduler.core.model.types import WHOLE_MILLIS, Request, WorkloadView

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


def workload_mix_of(workloads: Iterable[WorkloadView]) -> Fragmentation:
    """The mix of these workloads' ranks; ``USUAL`` where there are none. Equal requests are one object in it:
    they are compared again and again."""
    ranks: Counter[tuple[Request, str]] = Counter()
    met: dict[Request, Request] = {}
    for workload in workloads:
        for role in workload.roles:
            request = met.setdefault(role.request, role.request)
            ranks[request, workload.queue] += role.replicas
    tasks = [
        TypicalTask(
            float(number),
            request.cpu_millis,
            request.count,
            request.share_millis if request.count else 0,
            request.models,
        )
        for (request, _), number in ranks.items()
        if not request.by_equivalence
    ]
    asked = [Asked(request, float(number), queue) for (request, queue), number in ranks.items()]
    return Fragmentation(typical_tasks(tasks, coverage=1.0), asked) if tasks else USUAL
