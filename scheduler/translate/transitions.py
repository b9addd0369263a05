"""How a workload's status is written: from lifecycle steps and from a cycle's decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Literal

from common.resources import Workload
from common.resources.workload import (
    LastFailure,
    LastPreemption,
    NextGang,
    Nomination,
    PendingReason,
    RankPlacement,
    WorkloadStatus,
)
from scheduler.core.lifecycle.lifecycle import FINISHED, HOLDING, Note, Phase, State, Step
from scheduler.core.model.types import Admit, Defer, Migrate, Placement, Preempt, Reason, Resize
from scheduler.translate.log_lines import telling_line
from scheduler.translate.observed import Observed
from scheduler.translate.placements import rank_placement
from scheduler.translate.views import roles_digest

_NESTED = ("ranks", "next", "nominated", "pending", "last_failure", "last_preemption")
"""Fields of a status, but for its conditions, that hold more than a word or a number."""


def after_step(
    workload: Workload,
    ranks: list[RankPlacement],
    planned: list[RankPlacement],
    step: Step,
    now_ms: int,
    failure: LastFailure | None = None,
) -> WorkloadStatus:
    """The status after a lifecycle step. ``ranks``, and ``planned`` of the successor, as they are now;
    ``failure``: of a rank that has ended since."""
    old, state = workload.status, step.state
    successor = old.next.model_copy(update={"ranks": planned}) if old.next else None
    update: dict[str, object] = {"ranks": ranks, "next": successor, **_fields(state)}
    if failure is not None:
        update["last_failure"] = failure
    if step.succeed and successor is not None:
        update |= {"ranks": planned, "next": None, "placed_digest": successor.digest}
        update["pending"] = []
        if successor.cause == "Update":
            update["admitted_ms"] = now_ms
        if successor.cause == "Resize":
            update["resized_ms"] = now_ms
    elif state.attempt != old.attempt:
        update["ranks"] = [_assigned(rank) for rank in ranks]
    if step.drop or state.phase not in HOLDING:
        update["next"] = None
    if state.phase == "Suspended" or state.phase in FINISHED:
        update["nominated"] = None
    status = _renewed(old, update)
    if step.release:
        status.admitted_ms, status.placed_digest = None, ""
    _set_conditions(status, workload.metadata.generation, now_ms)
    return status


def after_admit(workload: Workload, decision: Admit, now_ms: int) -> WorkloadStatus:
    """The status of a workload that has been given its places."""
    update: dict[str, object] = {
        "phase": "Starting",
        "attempt": workload.status.attempt + 1,
        "ranks": [rank_placement(assignment) for assignment in decision.placement],
        "placed_digest": roles_digest(workload.spec.roles),
        "admitted_ms": now_ms,
        **dict.fromkeys(("next", "next_start_ms", "resized_ms", "leaves_by_ms", "nominated", "never_fits")),
        "pending": [],
        "message": "",
    }
    status = _renewed(workload.status, update)
    _set_conditions(status, workload.metadata.generation, now_ms)
    return status


def after_preempt(
    workload: Workload, decision: Preempt, grace_seconds: float, now_ms: int, winner: Workload | None = None
) -> WorkloadStatus:
    """The status of a workload that is told to end, so that another one can start. Costs it no restart.
    ``winner``: who it makes way for, where that is still there."""
    status = workload.status.model_copy(deep=True)
    status.phase, status.next, status.message = "Preempting", None, decision.message
    status.preemptions += 1
    status.last_preemption = LastPreemption(
        attempt=status.attempt,
        nodes=sorted({rank.node for rank in status.ranks}),
        by=winner.name if winner is not None and winner.project == workload.project else "",
        by_uid=winner.metadata.uid if winner is not None else "",
        message=decision.message,
        time_ms=now_ms,
    )
    status.leaves_by_ms = now_ms + round(grace_seconds * 1000)
    _set_conditions(status, workload.metadata.generation, now_ms)
    return status


def after_move(
    workload: Workload, decision: Resize | Migrate, beside: bool, grace_seconds: float, now_ms: int
) -> WorkloadStatus:
    """The status of a workload that is to run elsewhere or with other ranks. ``beside``: the new gang starts
    first."""
    status = workload.status.model_copy(deep=True)
    cause: Literal["Resize", "Migrate"] = "Resize" if isinstance(decision, Resize) else "Migrate"
    status.next = _next_gang(
        status, cause, decision.placement, beside, status.placed_digest, decision.message
    )
    if not beside:
        status.phase = "Resizing" if cause == "Resize" else "Migrating"
        status.message, status.leaves_by_ms = decision.message, now_ms + round(grace_seconds * 1000)
    _set_conditions(status, workload.metadata.generation, now_ms)
    return status


def after_surge(
    workload: Workload, placement: Placement, cause: Literal["Update", "Drain"], now_ms: int
) -> WorkloadStatus:
    """The status of a workload whose next gang starts beside the current one."""
    status = workload.status.model_copy(deep=True)
    message = "spec.roles changed" if cause == "Update" else "its node is drained"
    digest = roles_digest(workload.spec.roles)
    status.next = _next_gang(status, cause, placement, True, digest, message)
    status.pending, status.nominated, status.next_start_ms = [], None, None
    _set_conditions(status, workload.metadata.generation, now_ms)
    return status


def after_surge_deferred(workload: Workload, decision: Defer) -> WorkloadStatus:
    """The status of a workload whose change waits for room; what runs runs on."""
    update = {
        "pending": [pending_reason(reason) for reason in decision.reasons],
        "nominated": _nomination(workload, decision),
    }
    return workload.status.model_copy(update=update, deep=True)


def _next_gang(
    status: WorkloadStatus,
    cause: Literal["Update", "Migrate", "Resize", "Drain"],
    placement: Placement,
    beside: bool,
    digest: str,
    message: str,
) -> NextGang:
    return NextGang(
        cause=cause,
        beside=beside,
        attempt=status.attempt + 1,
        digest=digest,
        ranks=[rank_placement(assignment) for assignment in placement],
        message=message,
    )


def after_defer(workload: Workload, decision: Defer, now_ms: int) -> WorkloadStatus:
    """The status of a workload that waits."""
    status = workload.status.model_copy(deep=True)
    status.pending = [pending_reason(reason) for reason in decision.reasons]
    status.nominated = _nomination(workload, decision)
    status.never_fits = decision.never or None
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


def after_summary(
    group: Workload,
    phase: Phase,
    ranks: list[RankPlacement],
    pending: list[PendingReason],
    message: str,
    now_ms: int,
) -> WorkloadStatus:
    """The status of a group of independent replicas: what they are together."""
    update = {"phase": phase, "ranks": ranks, "pending": pending, "message": message, "next": None}
    status = group.status.model_copy(update={**update, "placed_digest": ""}, deep=True)
    _set_conditions(status, group.metadata.generation, now_ms)
    return status


def _nomination(workload: Workload, decision: Defer) -> Nomination | None:
    if not decision.nominated:
        return None
    ranks = [rank_placement(assignment) for assignment in decision.nominated]
    return Nomination(generation=workload.metadata.generation, ranks=ranks)


def pending_reason(reason: Reason) -> PendingReason:
    return PendingReason(code=reason.code, message=reason.message, nodes=reason.nodes)


def exit_notes(
    workload: Workload, after: Sequence[RankPlacement], observed: Observed
) -> Iterable[tuple[Note, str]]:
    """A note for each rank that has ended since, and the end of its log."""
    before = workload.status.ranks
    for old, new in zip(before, after, strict=True):
        if new.state == "Exited" and old.state != "Exited":
            text = f"rank {new.rank} ({new.role}) on {new.node} ended with exit code {new.exit_code}"
            tail = log_tail(workload, new, observed)
            if not new.exit_code:
                yield Note("RankExited", text), tail
                continue
            line = telling_line(tail)
            yield Note("RankExited", f"{text}: {line}" if line else text, "warning"), tail


def failure_of(
    workload: Workload,
    before: Sequence[RankPlacement],
    after: Sequence[RankPlacement],
    observed: Observed,
    now_ms: int,
) -> LastFailure | None:
    """What is known of the first rank that has failed since; None where none has."""
    for old, new in zip(before, after, strict=True):
        if new.state == "Exited" and old.state != "Exited" and new.exit_code:
            return LastFailure(
                attempt=workload.status.attempt,
                rank=new.rank,
                exit_code=new.exit_code,
                line=telling_line(log_tail(workload, new, observed)),
                time_ms=new.finished_ms or now_ms,
            )
    return None


def log_tail(workload: Workload, rank: RankPlacement, observed: Observed) -> str:
    record = observed.rank_record(workload.metadata.uid, workload.status.attempt, rank)
    return record.log_tail if record else ""


def _renewed(old: WorkloadStatus, update: dict[str, object]) -> WorkloadStatus:
    """A copy with these fields instead, which shares nothing with ``old``."""
    kept = {name: deepcopy(getattr(old, name)) for name in _NESTED if name not in update}
    conditions = [condition.model_copy() for condition in old.conditions]
    return old.model_copy(update={"conditions": conditions, **kept, **update})


def _fields(state: State) -> dict[str, object]:
    return {
        "phase": state.phase,
        "attempt": state.attempt,
        "restarts": state.restarts,
        "backoff_step": state.backoff_step,
        "crashes": state.crashes,
        "next_start_ms": state.next_start_ms,
        "leaves_by_ms": state.leaves_by_ms,
        "message": state.message,
    }


def _assigned(rank: RankPlacement) -> RankPlacement:
    """The same place, for the next attempt."""
    return RankPlacement(
        role=rank.role,
        replica=rank.replica,
        rank=rank.rank,
        node=rank.node,
        grants=list(rank.grants),
        cpu_millis=rank.cpu_millis,
        host_memory_bytes=rank.host_memory_bytes,
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
