"""What has been found out on trial is decided: who gives way, and where the claimant goes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
    it."""

    resizes: tuple[Resize, ...]
    victims: tuple[Preempt, ...]
    placement: Placement
    ready: bool = False
    unseated: tuple[str, ...] = ()


def carry_out(
    trial: Trial,
    workload: WorkloadView,
    evictions: TentativeEvictions,
    placement: Placement,
    displaced: Iterable[str],
) -> PreemptionPlan:
    """Put the workload on its placement, in the stead of all that is taken and of what is ``displaced``: what
    leaves and is waited for."""
    gone, residual = list[Assignment](), trial.residual
    unseated = tuple(sorted(evictions.evicted.keys() & trial.seated))
    victims, resizes = _preempts(trial, workload, evictions), _resizes(trial, workload, evictions)
    for uid in (*displaced, *sorted(evictions.evicted)):
        gone += trial.evict(uid).placement
    trial.seated.difference_update(unseated)
    for resize in resizes:
        gone += evictions.shrunk[resize.uid][1]
        trial.resize(resize.uid, resize.placement)
    trial.pool.occupy(placement)
    trial.admit(workload, placement)
    trial.keep_residual(gone, placement)
    if evictions.evicted:
        Candidates.of(trial).by_node.mark_evicted(evictions.evicted.values())
    ready = not gone and trial.residual == residual
    return PreemptionPlan(resizes, victims, placement, ready, unseated)


def _preempts(trial: Trial, workload: WorkloadView, evictions: TentativeEvictions) -> tuple[Preempt, ...]:
    stopped = (held for held in evictions.evicted.values() if held.workload.uid not in trial.seated)
    evicted = sorted(stopped, key=_cheapest)
    return tuple(Preempt(held.workload.uid, workload.uid, _because(workload, held)) for held in evicted)


def _resizes(trial: Trial, workload: WorkloadView, evictions: TentativeEvictions) -> tuple[Resize, ...]:
    shrunk = sorted(evictions.shrunk.values(), key=lambda pair: _cheapest(pair[0]))
    return tuple(
        Resize(
            held.workload.uid,
            without(trial.running[held.workload.uid].placement, ranks),
            f"gives up {len(ranks)} rank{'s' if len(ranks) > 1 else ''}: {_because(workload, held)}",
            workload.uid,
        )
        for held, ranks in shrunk
    )


def _cheapest(held: Candidate) -> tuple[int, int, str]:
    return held.price, -held.running.started_ms, held.workload.uid


def _because(workload: WorkloadView, held: Candidate) -> str:
    """The claimant may be of another tenant: only its queue is told."""
    queue = workload.queue
    if held.workload.priority < workload.priority:
        mine, theirs = held.workload.priority, workload.priority
        return f"a workload of queue {queue} has priority {theirs} over {mine}"
    if queue == held.workload.queue:
        return f"an older workload of queue {queue} waits"
    return f"queue {queue} takes back what {held.workload.queue} borrowed"
