"""How a workload's status is written: from lifecycle steps and from a cycle's decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from common.resources import Workload
from common.resources.workload import Grant, PendingReason, RankPlacement, WorkloadStatus
from scheduler.core.lifecycle import FINISHED, HOLDING, Note, State, Step
from scheduler.core.types import Admit, Assignment, Defer, Reason
from scheduler.observed import Observed
from scheduler.views import roles_digest


def after_step(workload: Workload, ranks: list[RankPlacement], step: Step, now_ms: int) -> WorkloadStatus:
    """The status after a lifecycle step."""
    old, state = workload.status, step.state
    restarted = state.attempt != old.attempt
    status = old.model_copy(
        update={"ranks": [_assigned(rank) for rank in ranks] if restarted else ranks, **_fields(state)},
        deep=True,
    )
    if step.release:
        status.admitted_ms, status.placed_digest = None, ""
    _set_conditions(status, workload.metadata.generation, now_ms)
    return status


def after_admit(workload: Workload, decision: Admit, now_ms: int) -> WorkloadStatus:
    """The status of a workload that has been given its places."""
    status = workload.status.model_copy(deep=True)
    status.phase, status.attempt = "Starting", status.attempt + 1
    status.ranks = [_placed(assignment) for assignment in decision.placement]
    status.placed_digest = roles_digest(workload.spec.roles)
    status.admitted_ms, status.next_start_ms = now_ms, None
    status.pending, status.message = [], ""
    _set_conditions(status, workload.metadata.generation, now_ms)
    return status


def after_defer(workload: Workload, decision: Defer, now_ms: int) -> WorkloadStatus:
    """The status of a workload that waits."""
    status = workload.status.model_copy(deep=True)
    status.pending = [pending_reason(reason) for reason in decision.reasons]
    status.message = f"{decision.reasons[0].message}. It fits when: {decision.remedy}"
    status.set_condition(
        "Admitted",
        False,
        decision.reasons[0].code,
        decision.reasons[0].message,
        now_ms=now_ms,
        generation=workload.metadata.generation,
    )
    status.observed_generation = workload.metadata.generation
    return status


def pending_reason(reason: Reason) -> PendingReason:
    return PendingReason(code=reason.code, message=reason.message, nodes=reason.nodes)


def exit_notes(
    before: Sequence[RankPlacement], after: Sequence[RankPlacement]
) -> Iterable[tuple[RankPlacement, Note]]:
    """A note for each rank that has ended since."""
    for old, new in zip(before, after, strict=True):
        if new.state == "Exited" and old.state != "Exited":
            text = f"rank {new.rank} ({new.role}) on {new.node} ended with exit code {new.exit_code}"
            yield new, Note("RankExited", text, "info" if new.exit_code == 0 else "warning")


def log_tail(workload: Workload, rank: RankPlacement, observed: Observed) -> str:
    record = observed.rank_record(workload.metadata.uid, workload.status.attempt, rank)
    return record.log_tail if record else ""


def _fields(state: State) -> dict[str, object]:
    return {
        "phase": state.phase,
        "attempt": state.attempt,
        "restarts": state.restarts,
        "backoff_step": state.backoff_step,
        "next_start_ms": state.next_start_ms,
        "message": state.message,
    }


def _assigned(rank: RankPlacement) -> RankPlacement:
    """The same place, for the next attempt."""
    return RankPlacement(
        role=rank.role, replica=rank.replica, rank=rank.rank, node=rank.node, grants=list(rank.grants)
    )


def _placed(assignment: Assignment) -> RankPlacement:
    grants = [
        Grant(device=s.device, index=s.index, vendor=s.vendor, model=s.model, memory_bytes=s.memory_bytes)
        for s in assignment.shares
    ]
    return RankPlacement(
        role=assignment.role,
        replica=assignment.replica,
        rank=assignment.rank,
        node=assignment.node,
        grants=grants,
    )


def _set_conditions(status: WorkloadStatus, generation: int, now_ms: int) -> None:
    phase: str = status.phase
    ready = _all_ready(status)
    admitted = phase in HOLDING or phase in FINISHED
    known = status.condition("Admitted")
    if admitted or known is None or known.status == "True":  # why it waits is the cycle's to say
        reason = "Placed" if admitted else phase
        status.set_condition("Admitted", admitted, reason, now_ms=now_ms, generation=generation)
    reason, message = ("EveryRankReady", "") if ready else (phase, status.message)
    status.set_condition("Ready", ready, reason, message, now_ms=now_ms, generation=generation)
    if phase in FINISHED:
        status.set_condition("Finished", True, phase, status.message, now_ms=now_ms, generation=generation)
    status.observed_generation = generation


def _all_ready(status: WorkloadStatus) -> bool:
    """Every rank answers its probe, or runs and has none."""
    running = status.phase == "Running" and all(rank.state == "Running" for rank in status.ranks)
    return status.phase == "Ready" or running
