"""Evictions on trial: they happen on the pool, the quota books and for affinity, and are undone with these by
the one mark of the trial. Who is evicted still counts as running: nothing is decided yet."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from scheduler.core.model.types import Assignment, Placement
from scheduler.core.placement.trial import Trial
from scheduler.core.preemption.candidates import Candidate
from scheduler.core.preemption.claims import VictimClass
from scheduler.core.reshape.elastic import spare_ranks, without

Key = tuple[Candidate, Assignment | None]
"""All of a workload, or a rank that it can spare."""


class TentativeEvictions:
    """Of one attempt. ``evicted``: workloads that go, by uid; ``shrunk``: ranks that elastic ones give up."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.evicted: dict[str, Candidate] = {}
        self.shrunk: dict[str, tuple[Candidate, list[Assignment]]] = {}

    # -- taking and giving back

    def take(self, candidate: Candidate, rank: Assignment | None) -> None:
        """It gives up a rank, or (None) all that it still holds."""
        if rank is None:
            self._evict(candidate)
        else:
            self._shrink(candidate, rank)

    def give_back(self, candidate: Candidate, rank: Assignment | None) -> None:
        """It keeps this rank, or (None) all of its places."""
        if rank is None:
            self._restore(candidate)
        else:
            self._regrow(candidate, rank)

    def _evict(self, candidate: Candidate) -> None:
        uid = candidate.workload.uid
        running = self._trial.running[uid]
        shrunk = self.shrunk.pop(uid, None)
        if shrunk is not None:
            self._trial.remember(partial(self.shrunk.__setitem__, uid, shrunk))
            for rank in shrunk[1]:
                self._trial.lay_back(running.workload, (rank,), whole=False)
        self.evicted[uid] = candidate
        self._trial.remember(partial(self.evicted.pop, uid))
        self._trial.lift(running.workload, running.placement, whole=True)

    def _restore(self, candidate: Candidate) -> None:
        uid = candidate.workload.uid
        del self.evicted[uid]
        self._trial.remember(partial(self.evicted.__setitem__, uid, candidate))
        running = self._trial.running[uid]
        self._trial.lay_back(running.workload, running.placement, whole=True)

    def _shrink(self, candidate: Candidate, rank: Assignment) -> None:
        self._trial.lift(candidate.workload, (rank,), whole=False)
        self._give_up(candidate, rank)
        self._trial.remember(partial(self._keep, candidate, rank))

    def _regrow(self, candidate: Candidate, rank: Assignment) -> None:
        self._keep(candidate, rank)
        self._trial.remember(partial(self._give_up, candidate, rank))
        self._trial.lay_back(candidate.workload, (rank,), whole=False)

    def _give_up(self, candidate: Candidate, rank: Assignment) -> None:
        self.shrunk.setdefault(candidate.workload.uid, (candidate, []))[1].append(rank)

    def _keep(self, candidate: Candidate, rank: Assignment) -> None:
        ranks = self.shrunk[candidate.workload.uid][1]
        ranks.remove(rank)
        if not ranks:
            del self.shrunk[candidate.workload.uid]

    # -- questions

    def victims(self) -> Iterator[Candidate]:
        """All that go or give up ranks."""
        yield from self.evicted.values()
        for candidate, _ in self.shrunk.values():
            yield candidate

    def classes(self) -> Iterator[VictimClass]:
        """Those of all victims."""
        return (candidate.kind for candidate in self.victims())

    def placement(self, candidate: Candidate) -> Placement:
        """What it still holds."""
        uid = candidate.workload.uid
        if uid in self.evicted:
            return ()
        current = self._trial.running[uid].placement
        return without(current, self.shrunk[uid][1]) if uid in self.shrunk else current

    def is_there(self, candidate: Candidate, rank: Assignment | None) -> bool:
        """Whether it still holds this rank, or (None) anything."""
        left = self.placement(candidate)
        if rank is None:
            return bool(left)
        return any((one.role, one.replica) == (rank.role, rank.replica) for one in left)

    def spare(self, candidate: Candidate) -> dict[str, int]:
        """Per role, how many ranks it could still give up."""
        spare = spare_ranks(self._trial.running[candidate.workload.uid])
        for rank in self.shrunk.get(candidate.workload.uid, (candidate, []))[1]:
            spare[rank.role] -= 1
        return spare
