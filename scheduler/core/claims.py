"""Whose places a workload may claim: of lower priority in its own queue, or of a queue that has more than its
due.

- *By priority*, a workload takes from those of lower priority in its own queue. In other queues nobody's
  nominal quota is touched by priority: of its cohort tree it takes what is borrowed, and only where
  ``QueueRules.borrow_within_cohort`` says so; of other trees what is beyond their nominal quotas, as long as
  its own queue keeps to its. Between queues without quotas priority alone counts.
- *By quota*, a queue reclaims what ``reclaim`` gives it from those that are not more important than the
  claimant; from those that are as important only when they have run for the least run time. Who is more
  important would be served before the claimant and be back in the same places at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from scheduler.core.layout import ModelKey
from scheduler.core.trial import Trial
from scheduler.core.types import WorkloadView


class Class(NamedTuple):
    """Running workloads that are alike to a claimant. ``ripe``: they have run for so long that equals may
    take their places back; ``loose``: that more important ones may, by quota; ``settled``: that more
    important ones may by priority."""

    queue: str
    priority: int
    ripe: bool
    loose: bool = True
    settled: bool = True


class Claim:
    """What one claimant may take. Answers depend on the quota tree as it is when asked."""

    def __init__(self, trial: Trial, workload: WorkloadView) -> None:
        self._tree = trial.tree
        self._queue = workload.queue
        self._priority = workload.priority
        self._needs = trial.needs(workload)
        member = self._tree.member(workload.queue)
        self._root = member.root if member else None
        self._rules = self._tree.rules(workload.queue)
        self._used = {model: self._tree.use_of_own(self._queue, model) for model in self._needs}
        self._own: dict[ModelKey, bool] = {}
        self._refused: dict[tuple[Class, ModelKey], int] = {}
        self._refusing: set[Class] = set()

    def open_classes(self, classes: Iterable[Class]) -> set[Class]:
        """Those that it may take anything from."""
        found: set[Class] = set()
        reclaimable: dict[str, bool] = {}
        for one in classes:
            if self._by_priority(one):
                found.add(one)
            elif self._by_quota(one):
                if one.queue not in reclaimable:
                    reclaimable[one.queue] = self._reclaims_from(one.queue)
                if reclaimable[one.queue]:
                    found.add(one)
        return found

    def may_take(self, one: Class, held: Mapping[ModelKey, int]) -> bool:
        """Whether it may take so much in addition to what has been taken off the tree already."""
        if self._by_priority(one) and all(self._may_preempt(one, model, held[model]) for model in held):
            return True
        return self._by_quota(one) and all(self._may_reclaim(one, model, held[model]) for model in held)

    def unborrowed(self, models: Iterable[ModelKey]) -> tuple[ModelKey, ...]:
        """Those of which its queue, with the claim and without what has been taken, borrows no more than it
        did: who takes only from its own queue lets it not borrow more."""
        return tuple(
            model
            for model in models
            if all(
                account.used + self._needs[model] <= max(account.quota, before)
                for account, before in self._used[model].items()
            )
        )

    def has_refused(self, one: Class, held: Mapping[ModelKey, int]) -> bool:
        """Whether so much, or less, was refused before: it need not be asked again."""
        if one not in self._refusing:
            return False
        return any(held[model] >= self._refused.get((one, model), held[model] + 1) for model in held)

    def _by_priority(self, one: Class) -> bool:
        if one.priority >= self._priority or not one.settled:
            return False
        if one.queue == self._queue or not self._needs:
            return True
        return any(self._may_preempt(one, model, 1) for model in self._needs)

    def _may_preempt(self, one: Class, model: ModelKey, millis: int) -> bool:
        """Whether priority reaches so much of what a queue has."""
        if one.queue == self._queue:
            return True
        member = self._tree.member(one.queue)
        apart = member is None or member.root is not self._root
        if apart or not self._tree.is_owned(one.queue, model):
            allowed = self._within_nominal(model)
        else:
            ceiling = self._rules.borrow_max_priority
            allowed = self._rules.borrow_within_cohort == "lowerPriority"
            allowed = allowed and (ceiling is None or one.priority <= ceiling)
        return allowed and self._tree.spares_nominal(self._queue, one.queue, model, millis)

    def _within_nominal(self, model: ModelKey) -> bool:
        """Whether the claimant's queue keeps to its own with all of the claim."""
        if model not in self._own:
            need = self._needs.get(model, 0)
            self._own[model] = self._root is None or self._tree.within_nominal(self._queue, model, need)
        return self._own[model]

    def _by_quota(self, one: Class) -> bool:
        if one.queue == self._queue:
            return False
        return (one.loose and one.priority < self._priority) or (one.ripe and one.priority == self._priority)

    def _reclaims_from(self, queue: str) -> bool:
        member = self._tree.member(queue)
        if member is None or member.root is not self._root:
            return False
        used = self._tree.usage(queue)
        return any(self._asks(queue, model, 1) for model in self._needs if used.get(model))

    def _may_reclaim(self, one: Class, model: ModelKey, millis: int) -> bool:
        """Remembers the least that was refused: more is refused then, too."""
        least = self._refused.get((one, model))
        if least is not None and millis >= least:
            return False
        if self._asks(one.queue, model, millis):
            return True
        self._refused[one, model] = millis
        self._refusing.add(one)
        return False

    def _asks(self, queue: str, model: ModelKey, millis: int) -> bool:
        """Asks the tree as if the claimant had all the rest of what it needs."""
        rest = self._needs.get(model, 0) - millis
        if rest <= 0:
            return self._tree.may_reclaim(self._queue, queue, model, millis)
        self._tree.charge(self._queue, model, rest)
        answer = self._tree.may_reclaim(self._queue, queue, model, millis)
        self._tree.refund(self._queue, model, rest)
        return answer
