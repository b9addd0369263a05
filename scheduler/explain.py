"""Why a workload is where it is, for people: computed afresh from what the store says."""

from __future__ import annotations

from typing import Any

from common.clock import SYSTEM_CLOCK, Clock
from common.resources import Workload
from common.store.port import Store
from scheduler.core.cycle import run_cycle
from scheduler.core.types import Admit, Policy
from scheduler.views import is_due, read_world, take_snapshot


async def explain(store: Store, name: str, project: str, clock: Clock = SYSTEM_CLOCK) -> dict[str, Any]:
    """Phase, dominant reason, reasons per filter with node counts, what would make it fit, and the place in
    its queue.

    For a workload that does not wait, only what its status tells. Raises ``NotFound``.
    """
    workload = await store.get(Workload, name, project)
    status = workload.status
    answer: dict[str, Any] = {
        "name": name,
        "project": project,
        "queue": workload.spec.queue,
        "phase": status.phase,
        "message": status.message,
        "attempt": status.attempt,
        "restarts": status.restarts,
        "nextStartMs": status.next_start_ms,
        "ranks": [rank.to_dict() for rank in status.ranks],
        "reasons": [reason.to_dict() for reason in status.pending],
        "remedy": "",
        "neverFits": False,
        "position": None,
    }
    if status.phase == "Pending":
        answer.update(await _why_waiting(store, workload, clock.now_ms()))
    return answer


async def _why_waiting(store: Store, workload: Workload, now_ms: int) -> dict[str, Any]:
    """What the next cycle will say."""
    world = await read_world(store)
    uid = workload.metadata.uid
    if not is_due(workload, now_ms):
        return {}
    if workload.project not in world.projects:
        return {"remedy": f"apply a Project named {workload.project}"}
    pending = [w for w in world.workloads.values() if is_due(w, now_ms) and w.project in world.projects]
    decisions = run_cycle(take_snapshot(world, pending), Policy(), now_ms)
    decision = next((decision for decision in decisions if decision.uid == uid), None)
    if decision is None or isinstance(decision, Admit):
        return {"message": workload.status.message or "fits now: the next cycle places it"}
    queue = {w.metadata.uid for w in pending if w.spec.queue == workload.spec.queue}
    waiting = [d.uid for d in decisions if not isinstance(d, Admit) and d.uid in queue]
    return {
        "message": decision.reasons[0].message,
        "reasons": [{"code": r.code, "message": r.message, "nodes": r.nodes} for r in decision.reasons],
        "remedy": decision.remedy,
        "neverFits": decision.never,
        "position": waiting.index(uid) + 1,
    }
