"""Whose places a workload may claim: who is a candidate for it.

- *By priority*, from less important ones: of its own queue, unless it alone needs more than the nominal quota
  and than the queue uses; of other queues only where no quota counts for these, and while its own queue keeps
  to its nominal quota, if it has one. Who borrows takes nothing from others by priority, as it would be taken
  back at once; but from other borrowers where ``QueueRules.borrow_within_cohort`` says so.
- *By quota*, a queue takes back what others of its cohort tree have borrowed, as ``reclaim`` says:
  whatever the borrower's priority (``QueueRules.reclaim_within_cohort``), but what a queue has borrowed is
  its least important work (``precedence``). From those that are as important or
  more, and where it is only fairer, not before they have run for the least run time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import NamedTuple

from scheduler.core.model.types import Placement, WorkloadView
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.placing import Bounds
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.layout import ModelKey
from scheduler.core.quota.quota import QuotaRefusal


class VictimClass(NamedTuple):
    """Running workloads that are alike to a claimant. ``ripe``: they have run for so long that equals may
    take their places back; ``loose``: that more important ones may, by quota; ``settled``: that those of
    their own queue may. ``created_ms``: where older ones of their own queue displace newer ones, else 0."""

    queue: str
    priority: int
    ripe: bool
    loose: bool = True
    settled: bool = True
    created_ms: int = 0


@dataclass(frozen=True)
class Claimant:
    """``least``: the workload with the ranks that it cannot do without, as nobody loses places for others.
    ``bounds``: what its quota leaves it; a refusal where only a queue that gives something up helps."""

    workload: WorkloadView
    least: WorkloadView
    bounds: Bounds | QuotaRefusal

    @classmethod
    def of(cls, workload: WorkloadView, bounds: Bounds | QuotaRefusal) -> Claimant:
        least = workload
        if any(role.least != role.replicas for role in workload.roles):
            roles = (replace(role, replicas=role.least, min_replicas=None) for role in workload.roles)
            least = replace(workload, roles=tuple(roles))
        return cls(workload, least, bounds)


class Reach(NamedTuple):
    """Whom a claimant may take from: these classes, by this claim. ``alone``: all are of its own queue."""

    claim: Claim
    classes: frozenset[VictimClass]
    alone: bool


def bounds_now(trial: Trial, claimant: Claimant, reach: Reach | None = None) -> Bounds | QuotaRefusal:
    """What the quota leaves it now, with what has been taken; ``reach``: by which it is taken, None = nothing
    is."""
    least, given = claimant.least, claimant.bounds
    bounds = trial.bounds_for(least)
    if isinstance(bounds, Bounds) and isinstance(given, Bounds):
        bounds = Bounds(bounds.models, given.only)
    if reach is None or not reach.alone or isinstance(bounds, QuotaRefusal):
        return bounds
    models = trial.needs(least) if bounds.models is None else bounds.models
    kept = reach.claim.within_reach(models)
    return bounds if len(kept) == len(models) else Bounds(kept, bounds.only)


class Claim:
    """What one claimant may take. Answers depend on the quota tree as it is when asked."""

    def __init__(self, trial: Trial, workload: WorkloadView) -> None:
        self._trial = trial
        self._tree = trial.tree
        self._queue = workload.queue
        self._priority = workload.priority
        self._created_ms = workload.created_ms
        self._needs = {model: millis for model, millis in trial.needs(workload).items() if millis}
        self._rules = self._tree.rules(workload.queue)
        self._used = {model: self._tree.use_of_own(self._queue, model) for model in self._needs}
        self._own: dict[ModelKey, bool] = {}
        self._levels: dict[str, int] = {}
        self._titles: dict[tuple[int, ModelKey], tuple[str, ...]] = {}
        self._fairer: dict[str, bool] = {}
        self._hopes = False
        self._asked: tuple[int, dict[tuple[str, int, ModelKey], bool]] = -1, {}

    def reaches(
        self,
        classes: Collection[VictimClass],
        held: Callable[[], Mapping[VictimClass, Mapping[ModelKey, int]]],
    ) -> Iterator[Reach]:
        """Whom to take from, one after the other: first those that have borrowed what is the queue's own,
        then all. ``held``: what each class holds."""
        borrowers = {one for one in classes if self._by_quota(one) and self._is_guaranteed(one)}
        if borrowers:
            yield self._reach(borrowers)
        own = [one for one in classes if one.queue == self._queue and self._by_priority(one)]
        claim = self._hoping(own, held()) if own and not self._is_entitled() else self
        everybody = {one for one in classes if claim._by_priority(one) or claim._may_claim(one)}
        if everybody and (claim._hopes or everybody != borrowers):
            yield claim._reach(everybody)

    def _reach(self, classes: Collection[VictimClass]) -> Reach:
        return Reach(self, frozenset(classes), all(one.queue == self._queue for one in classes))

    def _hoping(
        self, own: Iterable[VictimClass], held: Mapping[VictimClass, Mapping[ModelKey, int]]
    ) -> Claim:
        """The claim in the hope that less important work of its own queue makes way, too: with the titles
        that the queue has then."""
        hoping, mark = copy(self), self._trial.mark()
        hoping._hopes, hoping._titles, hoping._asked = True, {}, (-1, {})
        used = self._tree.usage(self._queue)
        for one in sorted(own):
            for model, millis in held[one].items():
                back = min(millis, used.get(model, 0))
                if back:
                    self._trial.charge(self._queue, model, -back)
                    used[model] -= back
        for key in self._all_titles():
            hoping._titles_at(*key)
        self._trial.rollback(mark)
        return hoping

    def may_take(self, one: VictimClass, held: Mapping[ModelKey, int]) -> bool:
        """Whether it may take so much in addition to what has been taken off the tree already. What goes as
        a whole may be more than was borrowed."""
        if self._by_priority(one) and all(self._may_cross(one, model, held[model]) for model in held):
            return True
        if not self._by_quota(one):
            return False
        wanted = [model for model in held if model in self._needs]
        if held and all(self._takes_back(one, model) for model in wanted or held):
            return True
        return (
            bool(wanted)
            and self._shares_with(one)
            and all(self._evens_out(one, model, held[model], self._needs[model]) for model in wanted)
        )

    def within_reach(self, models: Iterable[ModelKey]) -> tuple[ModelKey, ...]:
        """Those of which it may take from its own queue alone: it needs no more than the nominal quota, or
        than the queue used before. Who would have to borrow for itself takes nothing by priority."""
        return tuple(
            model
            for model in models
            if all(
                self._needs.get(model, 0) <= max(account.quota, before)
                for account, before in self._used.get(model, {}).items()
            )
        )

    def is_due(self, victims: Iterable[VictimClass], placement: Placement) -> bool:
        """Whether what is taken by quota from ``victims`` is the queue's due with this placement, where it
        was taken in the hope that less important work of its own makes way, too."""
        others = {one for one in victims if not self._by_priority(one)} if self._hopes else set()
        if not others:
            return True
        held, mark = millis_by_model(placement), self._trial.mark()
        for model, millis in held.items():
            self._trial.charge(self._queue, model, millis)
        due = all(self._is_due(one, model) for one in others for model in held if model in self._needs)
        self._trial.rollback(mark)
        return due

    def _is_due(self, one: VictimClass, model: ModelKey) -> bool:
        if self._tree.titles(self._queue, self._levels_to(one.queue), model, 0):
            return True
        return self._shares_with(one) and self._evens_out(one, model, 0, 0)

    # -- by priority

    def _by_priority(self, one: VictimClass) -> bool:
        if not one.settled or not self._is_less(one):
            return False
        return any(self._may_cross(one, model) for model in self._needs) or not self._needs

    def _is_less(self, one: VictimClass) -> bool:
        """Whether such a workload comes after the claimant."""
        if one.queue == self._queue and self._rules.within_queue == "never":
            return False
        if one.priority == self._priority and one.queue == self._queue:
            return one.created_ms > self._created_ms
        return one.priority < self._priority

    def _may_cross(self, one: VictimClass, model: ModelKey, millis: int = 1) -> bool:
        """Whether priority counts between the claimant's queue and another one. Where that one has a quota,
        it keeps it without so many ``millis``, gangs included: else it would take them back at once."""
        if one.queue == self._queue:
            return True
        if self._tree.is_counted(one.queue, model):
            ceiling = self._rules.borrow_max_priority
            if self._rules.borrow_within_cohort != "lowerPriority" or not self._levels_to(one.queue):
                return False
            below = ceiling is None or one.priority <= ceiling
            return below and self._tree.is_beyond_nominal(
                one.queue, self._queue, model, millis, self._below(one)
            )
        if model not in self._own:
            need = self._needs.get(model, 0)
            self._own[model] = self._tree.within_nominal(self._queue, model, need)
        return self._own[model]

    # -- by quota

    def _by_quota(self, one: VictimClass) -> bool:
        """Whether the queue's policy lets it reclaim from such a workload."""
        policy = self._rules.reclaim_within_cohort
        if one.queue == self._queue or policy == "never" or not self._levels_to(one.queue):
            return False
        if one.priority < self._priority:
            return one.loose
        return one.ripe and policy == "any"

    def _shares_with(self, one: VictimClass) -> bool:
        """Whether such a workload gives way where that is only fairer. Where priority counts between queues
        of its cohort tree, since borrowers take from each other by it or no quota counts for them, nobody
        more important does: it would take its places back, from the claimant or from a third one, and that
        one from the claimant."""
        if not one.ripe or not self._rules.fair_sharing:
            return False
        if one.priority <= self._priority:
            return True
        counted = all(self._tree.is_counted(one.queue, model) for model in self._needs)
        return counted and not self._tree.borrows_by_priority(one.queue)

    def _levels_to(self, queue: str) -> int:
        """How many members there are from its own queue up to below the cohort that the two have in common; 0
        = they have none."""
        if queue not in self._levels:
            self._levels[queue] = self._tree.levels_below_common(self._queue, queue)
        return self._levels[queue]

    def _titles_at(self, levels: int, model: ModelKey) -> tuple[str, ...]:
        key = levels, model
        if key not in self._titles:
            millis = self._needs[model]
            self._titles[key] = self._tree.titles(self._queue, levels, model, millis)
        return self._titles[key]

    def _all_titles(self) -> list[tuple[int, ModelKey]]:
        levels = sorted(set(self._levels.values()) - {0})
        return [(level, model) for level in levels for model in self._needs]

    def _is_entitled(self) -> bool:
        """Whether all of the claim is within what is the queue's own, without its giving up anything."""
        return all(self._titles_at(*key) for key in self._all_titles())

    def _is_guaranteed(self, one: VictimClass) -> bool:
        return any(self._takes_back(one, model) for model in self._needs)

    def _may_claim(self, one: VictimClass) -> bool:
        """Whether anything can be taken by quota from such a workload."""
        if not self._by_quota(one):
            return False
        return self._is_guaranteed(one) or (self._shares_with(one) and self._is_fairer(one.queue))

    def _is_fairer(self, queue: str) -> bool:
        if queue not in self._fairer:
            member = self._tree.member(queue)
            self._fairer[queue] = member is not None and any(
                self._tree.may_even_out(self._queue, queue, model, 1, 1)
                for model in self._needs
                if member.used.get(model)
            )
        return self._fairer[queue]

    def _evens_out(self, one: VictimClass, model: ModelKey, millis: int, wanted_millis: int) -> bool:
        return self._tree.may_even_out(self._queue, one.queue, model, millis, wanted_millis, self._below(one))

    def _below(self, one: VictimClass) -> Mapping[str, int]:
        """What less important work of its queue uses now, by class of devices."""
        return self._trial.precedence.below(one.queue, one.priority)

    def _takes_back(self, one: VictimClass, model: ModelKey) -> bool:
        """Whether the queue has borrowed with such work what the claimant is guaranteed, on a model that it
        needs or on another one for which the same quota counts; remembered until something is taken or given
        back."""
        if self._asked[0] != self._tree.changes:
            self._asked = self._tree.changes, {}
        answers, key = self._asked[1], (one.queue, one.priority, model)
        if key not in answers:
            levels = self._levels_to(one.queue)
            needed = (model,) if model in self._needs else self._needs
            founded = (self._titles_at(levels, each) for each in needed)
            answers[key] = any(titles and self._borrows(one, model, titles) for titles in founded)
        return answers[key]

    def _borrows(self, one: VictimClass, model: ModelKey, titles: tuple[str, ...]) -> bool:
        """What less important work uses is looked at only where the queue borrows at all."""
        tree, mine = self._tree, self._queue
        return tree.borrows(one.queue, mine, model, titles) and tree.borrows(
            one.queue, mine, model, titles, below=self._below(one)
        )
