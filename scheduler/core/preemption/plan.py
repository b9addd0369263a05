"""Last stage of preemption: what has been found out on trial as a plan, and carrying it out, once."""

from __future__ import annotations

from dataclasses import dataclass, field

from scheduler.core.model.types import Assignment, Placement, Preempt, Resize, WorkloadView
from scheduler.core.placement.trial import Trial
from scheduler.core.preemption.candidates import Candidate, Candidates
from scheduler.core.preemption.tentative import TentativeEvictions
from scheduler.core.reshape.elastic import without


@dataclass(frozen=True)
class PreemptionPlan:
    """What makes room. Without ``resizes`` and ``victims`` it is made by what leaves already, or, where
    ``ready``, it is there: a gang that mixes device models may keep to its quota where none of them has room
    for all of it. ``placement``: where the workload then goes. ``unseated``: who loses nominated places to
    it; ``displaced``: who leaves already and is waited for (both by uid). ``evicted``: the candidates that
    go, victims and unseated ones."""

    resizes: tuple[Resize, ...]
    victims: tuple[Preempt, ...]
    placement: Placement
    ready: bool
    unseated: tuple[str, ...]
    displaced: tuple[str, ...]
    evicted: tuple[Candidate, ...] = field(compare=False)


def make_plan(
    trial: Trial,
    workload: WorkloadView,
    placement: Placement,
    displaced: tuple[str, ...] = (),
    evictions: TentativeEvictions | None = None,
) -> PreemptionPlan:
    """The workload goes to its placement in the stead of all that is evicted or gives up ranks, and of what
    is ``displaced``."""
    evicted = {} if evictions is None else evictions.evicted
    shrunk = {} if evictions is None else evictions.shrunk
    stopped = sorted((one for uid, one in evicted.items() if uid not in trial.seated), key=_cheapest)
    return PreemptionPlan(
        tuple(
            _resize(trial, workload, *pair) for pair in sorted(shrunk.values(), key=lambda p: _cheapest(p[0]))
        ),
        tuple(Preempt(one.workload.uid, workload.uid, _because(workload, one)) for one in stopped),
        placement,
        ready=not (displaced or evicted or shrunk or trial.meets_residual(placement)),
        unseated=tuple(sorted(evicted.keys() & trial.seated)),
        displaced=displaced,
        evicted=tuple(evicted[uid] for uid in sorted(evicted)),
    )


def carry_out(trial: Trial, workload: WorkloadView, plan: PreemptionPlan) -> None:
    """On the trial the workload is where the plan says, and the victims are no more; what they hold and the
    workload does not need stays taken, because they are there until their grace ends."""
    gone: list[Assignment] = []
    if plan.evicted:
        Candidates.of(trial).by_node.below.mark_evicted(candidate.number for candidate in plan.evicted)
    for uid in (*plan.displaced, *(candidate.workload.uid for candidate in plan.evicted)):
        gone += trial.evict(uid).placement
    for uid in plan.unseated:
        trial.unseat(uid)
    for resize in plan.resizes:
        kept = {(one.role, one.replica) for one in resize.placement}
        before = trial.running[resize.uid].placement
        gone += (rank for rank in before if (rank.role, rank.replica) not in kept)
        trial.resize(resize.uid, resize.placement)
    trial.pool.occupy(plan.placement)
    trial.admit(workload, plan.placement)
    trial.keep_residual(gone, plan.placement)


def _resize(trial: Trial, workload: WorkloadView, candidate: Candidate, ranks: list[Assignment]) -> Resize:
    uid, plural = candidate.workload.uid, "s" if len(ranks) > 1 else ""
    message = f"gives up {len(ranks)} rank{plural}: {_because(workload, candidate)}"
    return Resize(uid, without(trial.running[uid].placement, ranks), message, workload.uid)


def _cheapest(candidate: Candidate) -> tuple[int, int, str]:
    return candidate.price, -candidate.running.started_ms, candidate.workload.uid


def _because(workload: WorkloadView, candidate: Candidate) -> str:
    """The claimant may be of another tenant: only its queue is told."""
    queue = workload.queue
    if candidate.workload.priority < workload.priority:
        mine, theirs = candidate.workload.priority, workload.priority
        return f"a workload of queue {queue} has priority {theirs} over {mine}"
    if queue == candidate.workload.queue:
        return f"an older workload of queue {queue} waits"
    return f"queue {queue} takes back what {candidate.workload.queue} borrowed"
