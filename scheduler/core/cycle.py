"""One scheduling cycle, as a story in six steps. Same snapshot, same decisions."""

from __future__ import annotations

from collections.abc import Iterable

from scheduler.core.filters import remembering
from scheduler.core.placing import Placed, Pool, ideal_pool, place_gang
from scheduler.core.reasons import defer_for_place, defer_for_queue
from scheduler.core.types import (
    Admit,
    Decision,
    Defer,
    Policy,
    QueueView,
    Snapshot,
    WorkloadView,
)


def run_cycle(snapshot: Snapshot, policy: Policy, now_ms: int) -> list[Decision]:
    """Decide about every waiting workload, in the order in which they were considered.

    A workload that does not fit does not hold up those behind it. ``now_ms`` is the time of the cycle;
    orderings that depend on waiting time use it.
    """
    # 1. Heads: everything that waits, most important first.
    heads = order(snapshot.pending, now_ms)
    pool: Pool = {node.name: node for node in sorted(snapshot.nodes, key=lambda node: node.name)}
    ideal, judge = ideal_pool(pool), remembering()
    queues = {queue.name: queue for queue in snapshot.queues}
    held = {queue.name: queue.devices_in_use for queue in snapshot.queues}
    decisions: list[Decision] = []
    waiting = 0
    for workload in heads:
        # 2. Queue: may it use it, and does its limit leave room?
        decision: Decision | None = _check_queue(workload, queues, held)
        if decision is None:
            # 3. Filter, 4. score and 5. place each rank of the gang on a trial copy of the pool.
            found = place_gang(workload.roles, pool, policy, judge)
            if isinstance(found, Placed):
                # 6. Assume: those that follow see the pool with this gang on it.
                pool = found.pool
                held[workload.queue] += workload.device_count
                decision = Admit(workload.uid, found.placement)
            else:
                decision = defer_for_place(workload, found, pool, ideal, policy, judge)
        if isinstance(decision, Defer):
            waiting += 1
            decision = Defer(
                decision.uid, decision.reasons, decision.remedy, decision.never, position=waiting
            )
        decisions.append(decision)
    return decisions


def order(pending: Iterable[WorkloadView], now_ms: int) -> list[WorkloadView]:
    """Priority first, then who came first; the name and the uid make it total. A creation time that lies in
    the future (clocks differ) counts as now."""
    return sorted(
        pending,
        key=lambda w: (-w.priority, min(w.created_ms, now_ms), w.created_ms, w.project, w.name, w.uid),
    )


def _check_queue(workload: WorkloadView, queues: dict[str, QueueView], held: dict[str, int]) -> Defer | None:
    queue = queues.get(workload.queue)
    if queue is None:
        return defer_for_queue(workload, "QueueUnknown", None, 0)
    if workload.allowed_queues and workload.queue not in workload.allowed_queues:
        return defer_for_queue(workload, "QueueNotAllowed", queue, 0)
    if queue.max_devices is not None and held[queue.name] + workload.device_count > queue.max_devices:
        return defer_for_queue(workload, "QueueLimit", queue, held[queue.name])
    return None
