"""What queues let their workloads do, as plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class QueueRules:
    """What a queue's workloads may take from others, and how long they are safe from them. None = as the
    cohort above says, in the end ``queue_rules.DEFAULTS``.

    ``reclaim_within_cohort``: whose borrowed devices it takes back. ``borrow_within_cohort``: whether who
    would have to borrow takes places from less important workloads of queues that borrow as well, and up to
    which priority (``borrow_max_priority``, None = any). ``fair_sharing``: whether who borrows takes from
    other borrowers until their weighted shares are equal. ``preempt_min_runtime_seconds``: so long after its
    start no workload is stopped for a more important one; ``reclaim_min_runtime_seconds``: nor for another
    queue that takes back what is its due. ``within_queue``: from whom of its own queue a workload takes
    places. ``queueing``: with ``strict`` nobody passes the first of the queue that finds no place.
    """

    queueing: Literal["bestEffort", "strict"] | None = None
    within_queue: Literal["lowerPriority", "lowerOrNewerEqualPriority", "never"] | None = None
    reclaim_within_cohort: Literal["any", "lowerPriority", "never"] | None = None
    borrow_within_cohort: Literal["never", "lowerPriority"] | None = None
    borrow_max_priority: int | None = None
    fair_sharing: bool | None = None
    preempt_min_runtime_seconds: int | None = None
    reclaim_min_runtime_seconds: int | None = None
