"""The quota tree: what queues and cohorts have, use, borrow and lend, by class of device.

See ``docs/design/quotas.md`` for the rules with an example.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from common.errors import InvalidInput
from scheduler.core.model.device_classes import ModelKey
from scheduler.core.model.rules import QueueRules
from scheduler.core.model.types import QueueView
from scheduler.core.quota.fairness import use_less, use_more
from scheduler.core.quota.queue_members import Member, grow_tree, stranger
from scheduler.core.quota.queue_rules import DEFAULTS
from scheduler.core.quota.quota_accounts import Account, Accounts, QuotaGrant
from scheduler.core.quota.reclaim import borrows, evens_out, is_beyond_nominal, sides, titles
from scheduler.core.quota.refusals import (
    QuotaRefusal,
    first_refusal,
    no_queue_but_cohort,
    not_allowed,
    unknown,
)

__all__ = ["ModelKey", "QuotaRefusal", "QuotaTree"]

NOTHING: Mapping[str, int] = {}


class Openings:
    """Which of some models a queue may use, remembered until something changes in its cohort tree."""

    __slots__ = ("accounts", "answers", "asked", "grants", "limited", "member", "models", "version")

    def __init__(self, member: Member, grants: Sequence[QuotaGrant]) -> None:
        self.member = member
        self.limited = any(above.limit_millis is not None for above in member.chain)
        self.asked = tuple(grant.model for grant in grants)
        self.grants = tuple(grant for grant in grants if grant.spent is None)
        self.models = tuple(grant.model for grant in self.grants)
        self.accounts: tuple[Account, ...] = tuple(
            dict.fromkeys(account for grant in self.grants for account in grant.accounts)
        )
        self.version = -1
        self.answers: dict[int, tuple[ModelKey, ...]] = {}

    def open_to(self, millis: int) -> tuple[ModelKey, ...]:
        """Those of which the queue may use so much more now."""
        version = self.member.root.version
        if self.version != version:
            self.version = version
            self.answers.clear()
        answer = self.answers.get(millis)
        if answer is None:
            answer = self.answers[millis] = self._work_out(millis)
        return answer

    def _work_out(self, millis: int) -> tuple[ModelKey, ...]:
        if millis <= 0:
            return self.asked
        for above in self.member.chain if self.limited else ():
            if above.limit_millis is not None and above.total + millis > above.limit_millis:
                return ()
        for account in self.accounts:
            if account.blocker(millis) is not None:
                break
        else:
            return self.models
        blocked = {account for account in self.accounts if account.blocker(millis) is not None}
        return tuple(grant.model for grant in self.grants if blocked.isdisjoint(grant.accounts))


class QuotaTree:
    """Usage and limits of all queues; see ``QuotaRefusal`` for the answers.

    ``capacities``: millis in the pool per model, of which fair shares are parts. All amounts are millis of
    devices. ``changes``: how often something was charged or refunded.
    """

    def __init__(self, queues: Sequence[QueueView], capacity: Mapping[ModelKey, int]) -> None:
        self._members = grow_tree(queues, capacity)
        self._queues = {name: member for name, member in self._members.items() if not member.is_cohort}
        self._by_priority = {
            member.root
            for member in self._queues.values()
            if member.rules.borrow_within_cohort == "lowerPriority"
        }
        self._accounts = Accounts(self._members.values())
        self.capacities: Mapping[ModelKey, int] = dict(capacity)
        self._grants: dict[str, dict[ModelKey, QuotaGrant]] = {name: {} for name in self._members}
        self._openings: dict[tuple[str, tuple[ModelKey, ...]], Openings] = {}
        self._answers: dict[QuotaGrant, tuple[int, dict[int, QuotaRefusal | None]]] = {}
        self.changes = 0
        self._changed: dict[Member, int] = {}

    def charge(self, queue: str, model: ModelKey, millis: int) -> None:
        """The queue uses so much more, whatever its limits say. Unknown queues are not counted."""
        grant = self._grant(queue, model)
        if grant is None:
            return
        if millis < 0:
            raise InvalidInput(f"queue {queue}: charge of {millis} millis", param="millis")
        for member in grant.chain:
            use_more(member, model, millis, grant.capacity)
        for account in grant.accounts:
            account.take(millis)
        self._note(grant)

    def refund(self, queue: str, model: ModelKey, millis: int) -> None:
        """The queue uses so much less. Raises ``InvalidInput`` where that is more than it uses."""
        grant = self._grant(queue, model)
        if grant is None or millis == 0:
            return
        used = grant.member.used.get(model, 0)
        if not 0 <= millis <= used:
            raise InvalidInput(f"queue {queue}: refund of {millis} millis, uses {used}", param="millis")
        for member in grant.chain:
            use_less(member, model, millis, self.capacities)
        for account in grant.accounts:
            account.give_back(millis)
        self._note(grant)

    def refusal(
        self, queue: str, project_allows: Sequence[str] = (), project: str = ""
    ) -> QuotaRefusal | None:
        """Why the queue takes nothing from this project, whatever it needs; None = it may.
        ``project_allows``: the queues that the project may use, empty = all."""
        if queue not in self._queues:
            cohort = self._members.get(queue)
            return unknown(queue) if cohort is None else no_queue_but_cohort(cohort)
        if project_allows and queue not in project_allows:
            return not_allowed(queue, project, project_allows)
        return None

    def check(
        self,
        queue: str,
        need: Mapping[ModelKey, int],
        project_allows: Sequence[str] = (),
        project: str = "",
    ) -> QuotaRefusal | None:
        """Why a workload that needs this may not start now; None = it may. See ``refusal``."""
        refused = self.refusal(queue, project_allows, project)
        if refused is not None:
            return refused
        member = self._queues[queue]
        if len(need) == 1:
            ((model, millis),) = need.items()
            return self._check_one(self.grant_of(member, model), millis)
        need = {model: millis for model, millis in need.items() if millis > 0}
        return first_refusal([self.grant_of(member, model) for model in need], need)

    def _check_one(self, grant: QuotaGrant, millis: int) -> QuotaRefusal | None:
        """What is needed of one model; remembered until something changes in the cohort tree."""
        known = self._answers.get(grant)
        if known is None or known[0] != grant.root.version:
            known = self._answers[grant] = grant.root.version, {}
        answers = known[1]
        if millis not in answers:
            answers[millis] = None if grant.is_open(millis) else first_refusal([grant], {grant.model: millis})
        return answers[millis]

    def openings(self, queue: str, models: Sequence[ModelKey]) -> Openings:
        """Which of ``models`` the queue may use; none where it is unknown."""
        key = (queue, tuple(models))
        known = self._openings.get(key)
        if known is None:
            member = self._queues.get(queue)
            grants = [] if member is None else [self.grant_of(member, model) for model in models]
            known = self._openings[key] = Openings(member or stranger(queue), grants)
        return known

    def open_models(self, queue: str, millis: int, models: Sequence[ModelKey]) -> tuple[ModelKey, ...]:
        """Those of ``models`` of which the queue may use ``millis`` more now, in their order."""
        return self.openings(queue, models).open_to(millis)

    def borrowed(self, queue: str, model: ModelKey) -> int:
        """How much the queue uses beyond its nominal quota, in the narrowest class that counts for this
        model."""
        grant = self._grant(queue, model)
        return grant.accounts[0].borrowed if grant is not None and grant.accounts else 0

    def is_counted(self, queue: str, model: ModelKey) -> bool:
        """Whether any quota counts for the model in the queue."""
        grant = self._grant(queue, model)
        return grant is not None and bool(grant.accounts)

    def within_nominal(self, queue: str, model: ModelKey, millis: int) -> bool:
        """Whether the queue, with so much more, keeps to its own nominal quota in each class that it has one
        for. Without such a quota: whether no quota counts for it at all."""
        grant = self._grant(queue, model)
        return grant is not None and not grant.borrows(millis)

    def levels_below_common(self, queue: str, other: str) -> int:
        """How many members there are from the queue up to below the cohort that both have in common; 0 where
        they have none, or are the same."""
        ours, theirs = self._queues.get(queue), self._queues.get(other)
        if ours is None or theirs is None or ours.root is not theirs.root:
            return 0
        return len(sides(ours.chain, theirs.chain)[0])

    def titles(self, queue: str, levels: int, model: ModelKey, millis: int) -> tuple[str, ...]:
        """The classes in which the queue, or one of the cohorts above it (so many ``levels`` in all), has a
        right to so much more of the model."""
        grant = self._grant(queue, model)
        return () if grant is None else titles(grant, levels, millis)

    def borrows(
        self,
        victim_queue: str,
        claimant_queue: str,
        model: ModelKey,
        founded: Iterable[str],
        millis: int = 1,
        below: Mapping[str, int] = NOTHING,
    ) -> bool:
        """Whether the victim's side has at least ``millis`` more than its own, seen from the claimant's, in
        one of these classes and the narrower ones. ``below``: what less important work of the victim's queue
        uses by class, which is not to count."""
        claimant, victim = self._grant(claimant_queue, model), self._grant(victim_queue, model)
        if claimant is None or victim is None:
            return False
        return borrows(victim, claimant, founded, millis, below)

    def is_beyond_nominal(
        self,
        victim_queue: str,
        claimant_queue: str,
        model: ModelKey,
        millis: int = 1,
        below: Mapping[str, int] = NOTHING,
    ) -> bool:
        """Whether the victim's side uses so much more than its nominal quota in every class, seen from the
        claimant's; ``below`` as for ``borrows``."""
        claimant, victim = self._grant(claimant_queue, model), self._grant(victim_queue, model)
        return (
            claimant is not None and victim is not None and is_beyond_nominal(victim, claimant, millis, below)
        )

    def may_even_out(
        self,
        claimant_queue: str,
        victim_queue: str,
        model: ModelKey,
        millis: int,
        wanted_millis: int,
        below: Mapping[str, int] = NOTHING,
    ) -> bool:
        """Whether shares are fairer when the victim's queue loses ``millis`` of its devices, and none of its
        own, and the claimant's gets what it wants; ``below`` as for ``borrows``."""
        claimant, victim = self._grant(claimant_queue, model), self._grant(victim_queue, model)
        if claimant is None or victim is None:
            return False
        return evens_out(claimant, victim, millis, wanted_millis, self.capacities, below)

    def may_reclaim(self, claimant_queue: str, victim_queue: str, model: ModelKey, millis: int) -> bool:
        """Whether the claimant may take so much of the model, and not more than that goes, from what the
        victim's queue uses; see ``reclaim``."""
        if not 0 < millis <= self.usage(victim_queue).get(model, 0):
            return False
        levels = self.levels_below_common(claimant_queue, victim_queue)
        founded = self.titles(claimant_queue, levels, model, millis) if levels else ()
        if founded and self.borrows(victim_queue, claimant_queue, model, founded, millis):
            return True
        return self.may_even_out(claimant_queue, victim_queue, model, millis, millis)

    def use_of_own(self, queue: str, model: ModelKey) -> dict[Account, int]:
        """What the queue uses in the classes that ``within_nominal`` looks at."""
        grant = self._grant(queue, model)
        return {} if grant is None else {account: account.used for account in grant.own}

    def rules(self, queue: str) -> QueueRules:
        """The rules of a queue, see ``queue_rules``."""
        member = self._queues.get(queue)
        return DEFAULTS if member is None else member.rules

    def borrows_by_priority(self, queue: str) -> bool:
        """Whether any queue of its cohort tree takes from less important work of others that borrow."""
        member = self._queues.get(queue)
        return member is not None and member.root in self._by_priority

    def displaces_newer(self, queue: str) -> bool:
        """Whether older workloads of the queue displace newer ones of their priority."""
        return self.rules(queue).within_queue == "lowerOrNewerEqualPriority"

    def least_reclaim_seconds(self, default: int) -> int:
        """The shortest run time after which any queue's workloads may be reclaimed by their equals."""
        seconds = (member.rules.reclaim_min_runtime_seconds for member in self._queues.values())
        return min((default, *(each for each in seconds if each is not None)))

    def share(self, queue: str) -> float:
        """The weighted fair share of a queue or cohort, see ``fairness``; infinite where it is unknown."""
        return (self._members.get(queue) or stranger(queue)).share

    def usage(self, queue: str) -> dict[ModelKey, int]:
        """What a queue, or a cohort with all below it, uses of each model."""
        member = self._members.get(queue)
        return {} if member is None else dict(member.used)

    def member(self, queue: str) -> Member | None:
        """The queue in the tree; None for cohorts and unknown names."""
        return self._queues.get(queue)

    def changed_since(self, changes: int) -> Iterable[Member]:
        """The queues whose usage has changed since ``changes`` was the number of changes."""
        if changes == self.changes:
            return ()
        changed = []
        for member, at in reversed(self._changed.items()):
            if at <= changes:
                break
            changed.append(member)
        return changed

    def _note(self, grant: QuotaGrant) -> None:
        grant.root.version += 1
        grant.member.charges += 1
        self.changes += 1
        self._changed.pop(grant.member, None)
        self._changed[grant.member] = self.changes

    def _grant(self, queue: str, model: ModelKey) -> QuotaGrant | None:
        grants = self._grants.get(queue)
        if grants is None:
            return None
        return grants.get(model) or self.grant_of(self._members[queue], model)

    def grants_of(self, member: Member) -> Mapping[ModelKey, QuotaGrant]:
        """Those that ``grant_of`` has been asked for."""
        return self._grants[member.name]

    def grant_of(self, member: Member, model: ModelKey) -> QuotaGrant:
        """What a grant of this model to a queue of the tree touches."""
        grants = self._grants[member.name]
        grant = grants.get(model)
        if grant is None:
            capacity = self.capacities.get(model, 0)
            grant = grants[model] = QuotaGrant(member, model, self._accounts, capacity)
        return grant
