"""Fifth stage of preemption: victims that a claimant, once it has a place, does not need keep theirs."""

from __future__ import annotations

from scheduler.core.model.types import Placement, WorkloadView
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.trial import Trial
from scheduler.core.preemption.beside import tolerates
from scheduler.core.preemption.candidates import Candidate
from scheduler.core.preemption.claims import Claimant, Reach
from scheduler.core.preemption.place import place
from scheduler.core.preemption.tentative import Key, TentativeEvictions

REFINED = 16
"""With so few victims it is tried for each whether the gang fits elsewhere without it."""


def fill_back(
    trial: Trial, claimant: Claimant, reach: Reach, evictions: TentativeEvictions, placement: Placement
) -> Placement:
    """Give back to those that fit beside the claimant, which is on the pool; of few victims also to those
    without whom it fits elsewhere. Returns where it is then."""
    _keep_beside(trial, claimant.workload, reach, evictions, placement)
    return _keep_elsewhere(trial, claimant, reach, evictions, placement)


def _keep_beside(
    trial: Trial, workload: WorkloadView, reach: Reach, evictions: TentativeEvictions, placement: Placement
) -> None:
    crowded = {one.node for one in placement}
    for candidate, rank in _dearest_first(workload, evictions):
        places = trial.running[candidate.workload.uid].placement if rank is None else (rank,)
        if not tolerates(trial.pool, workload, candidate.workload, places, crowded):
            continue
        evictions.give_back(candidate, rank)
        allowed = trial.tree.check(workload.queue, millis_by_model(placement)) is None
        if not allowed or not reach.claim.is_due(evictions.classes(), placement):
            evictions.take(candidate, rank)


def _keep_elsewhere(
    trial: Trial, claimant: Claimant, reach: Reach, evictions: TentativeEvictions, placement: Placement
) -> Placement:
    victims = _dearest_first(claimant.workload, evictions)
    for candidate, rank in victims if len(victims) <= REFINED else ():
        mark = trial.mark()
        trial.pool.vacate(placement)
        evictions.give_back(candidate, rank)
        elsewhere = place(trial, claimant, reach)
        if elsewhere is None or not reach.claim.is_due(evictions.classes(), elsewhere):
            trial.rollback(mark)
        else:
            placement = elsewhere
    return placement


def _dearest_first(workload: WorkloadView, evictions: TentativeEvictions) -> list[Key]:
    """The victims in the order in which they are given back: workloads before ranks; those of the claimant's
    own queue first, since who borrows gives way before them; the dearest first; of one workload the lowest
    replica numbers first, since the highest go."""

    def first_back(candidate: Candidate) -> tuple[bool, int, int, str]:
        own = candidate.kind.queue == workload.queue
        return not own, -candidate.price, candidate.running.started_ms, candidate.workload.uid

    evicted: list[Key] = [(one, None) for one in sorted(evictions.evicted.values(), key=first_back)]
    shrunk = sorted(evictions.shrunk.values(), key=lambda pair: first_back(pair[0]))
    return evicted + [
        (candidate, rank)
        for candidate, ranks in shrunk
        for rank in sorted(ranks, key=lambda one: (one.role, one.replica))
    ]
