"""Victims whom a claimant, once it has a place, turns out not to need keep their places."""

from __future__ import annotations

from collections.abc import Callable

from scheduler.core.model.types import Assignment, Placement, WorkloadView
from scheduler.core.placement.trial import Trial, millis_by_model
from scheduler.core.preemption.candidates import Candidate
from scheduler.core.preemption.claims import Claim
from scheduler.core.preemption.tentative import TentativeEvictions, tolerates

REFINED = 16
"""With so few victims it is tried for each whether the gang fits elsewhere without it."""

Victim = tuple[Candidate, Assignment | None]
"""All of a workload, or a rank of it."""


class FillingBack:
    """For one claimant, which is on the pool. ``place``: another place for it, on the pool and within the
    quota as they are then; None = there is none."""

    def __init__(
        self,
        trial: Trial,
        workload: WorkloadView,
        claim: Claim,
        evictions: TentativeEvictions,
        place: Callable[[], Placement | None],
    ) -> None:
        self._trial = trial
        self._workload = workload
        self._claim = claim
        self._evictions = evictions
        self._place = place

    def is_due(self, placement: Placement) -> bool:
        """Whether all that is taken may be taken for this placement, see ``Claim.is_due``."""
        return self._claim.is_due((held.kind for held in self._evictions.victims()), placement)

    def fill_back(self, placement: Placement) -> Placement:
        """Give back to those that fit beside the gang."""
        crowded = {one.node for one in placement}
        for held, rank in self._victims():
            self._give_back(held, rank, placement, crowded)
        return placement

    def refine(self, placement: Placement) -> Placement:
        """Of few victims, let go those without whom the gang fits elsewhere. Returns where it is then."""
        victims = self._victims()
        if len(victims) > REFINED:
            return placement
        for held, rank in victims:
            mark, before = self._trial.mark(), self._evictions.saved()
            self._trial.pool.vacate(placement)
            self._return(held, rank)
            elsewhere = self._place()
            if elsewhere is None or not self.is_due(elsewhere):
                self._trial.rollback(mark)
                self._evictions.return_to(before)
            else:
                placement = elsewhere
        return placement

    def _victims(self) -> list[Victim]:
        """In the order in which they are given back: workloads before ranks; those of the claimant's own
        queue first, since who borrows gives way before them; the dearest first; of one workload the lowest
        replica numbers first, since the highest go."""
        evicted: list[Victim] = [
            (held, None) for held in sorted(self._evictions.evicted.values(), key=self._first_back)
        ]
        shrunk = sorted(self._evictions.shrunk.values(), key=lambda pair: self._first_back(pair[0]))
        return evicted + [
            (held, rank)
            for held, ranks in shrunk
            for rank in sorted(ranks, key=lambda one: (one.role, one.replica))
        ]

    def _first_back(self, held: Candidate) -> tuple[bool, int, int, str]:
        own = held.kind.queue == self._workload.queue
        return not own, -held.price, held.running.started_ms, held.workload.uid

    def _give_back(
        self, held: Candidate, rank: Assignment | None, placement: Placement, crowded: set[str]
    ) -> None:
        trial = self._trial
        places = trial.running[held.workload.uid].placement if rank is None else (rank,)
        if not tolerates(trial.pool, self._workload, held.workload, places, crowded):
            return
        self._return(held, rank)
        allowed = trial.tree.check(self._workload.queue, millis_by_model(placement)) is None
        if not allowed or not self.is_due(placement):
            self._take(held, rank)

    def _return(self, held: Candidate, rank: Assignment | None) -> None:
        if rank is None:
            self._evictions.restore(held)
        else:
            self._evictions.regrow(held, rank)

    def _take(self, held: Candidate, rank: Assignment | None) -> None:
        if rank is None:
            self._evictions.evict(held)
        else:
            self._evictions.shrink(held, rank)
