"""One class of devices in one queue or cohort: nominal quota, what is borrowed, what is lent.

The arithmetic is that of Kueue's cohorts (``pkg/cache/scheduler/resource_node.go``): what a child uses beyond
the quota that it does not lend counts in its parent, whose quota is its own and all that its children lend.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from scheduler.core.model.device_classes import ModelKey, classes_of
from scheduler.core.model.types import PeriodBudget, Quota
from scheduler.core.quota.queue_members import Member


class Account:
    """``own``: its own nominal; ``quota``: that and all that its children lend; ``kept``: the part of it that
    is not lent; ``used``: what it takes of ``quota``; ``granted``: someone at or below it has a quota for the
    class (all in millis). ``borrowing``: how far ``used`` may exceed ``quota``; None = as far as the cohort
    has."""

    __slots__ = ("borrowing", "device_class", "granted", "kept", "member", "own", "parent", "quota", "used")

    def __init__(self, member: Member, device_class: str, parent: Account | None) -> None:
        self.member = member
        self.device_class = device_class
        self.parent = parent
        self.own = 0
        self.quota = 0
        self.kept = 0
        self.used = 0
        self.borrowing: int | None = None
        self.granted = False

    @property
    def borrowed(self) -> int:
        return max(0, self.used - self.quota)

    def levels(self) -> Iterator[Account]:
        """This account and those above it."""
        account: Account | None = self
        while account is not None:
            yield account
            account = account.parent

    def blocker(self, millis: int) -> Account | None:
        """The account, at or above this one, that cannot take so much more; None where all can."""
        account = self
        while True:
            parent = account.parent
            wanted = account.used + millis
            if parent is None:
                return account if wanted > account.quota else None
            if account.borrowing is not None and wanted > account.quota + account.borrowing:
                return account
            if account.used < account.kept:
                millis = wanted - account.kept
            if millis <= 0:
                return None
            account = parent

    def borrows(self, millis: int) -> int:
        """The height of the lowest cohort that has so much more left for it, of its own and of what is lent
        in it; 0 = it keeps to its own quota."""
        account = self
        while account.used + millis > account.quota:
            if account.parent is None:
                return account.member.height + 1
            millis -= max(0, account.kept - account.used)
            account = account.parent
        return account.member.height

    def most(self) -> int:
        """How much this account can hold when nobody else uses anything."""
        if self.parent is None:
            return self.quota
        lent = self.kept + self.parent.most()
        return lent if self.borrowing is None else min(lent, self.quota + self.borrowing)

    def room(self) -> int:
        """How much more this account can take now; negative where quotas were cut below what is in use."""
        if self.parent is None:
            return self.quota - self.used
        lent = max(0, self.kept - self.used) + self.parent.room()
        return lent if self.borrowing is None else min(lent, self.quota + self.borrowing - self.used)

    def take(self, millis: int) -> None:
        account = self
        while True:
            kept = account.kept - account.used
            account.used += millis
            if kept > 0:
                millis -= kept
            if millis <= 0 or account.parent is None:
                return
            account = account.parent

    def give_back(self, millis: int) -> None:
        account = self
        while True:
            above = account.used - account.kept
            account.used -= millis
            millis = min(millis, above)
            if millis <= 0 or account.parent is None:
                return
            account = account.parent


class Accounts:
    """The accounts of a forest of queues.

    A class counts for a queue where it or a cohort above it has a quota for that class. Where they have none
    that covers a model, the queue has nothing of its own to use: then all classes count that others in its
    cohort tree have quotas for, and it borrows from them.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        members = sorted(members, key=lambda member: (-len(member.chain), member.name))
        self._accounts: dict[str, dict[str, Account]] = {member.name: {} for member in members}
        quotas = {
            member.name: {quota.device_class.lower(): quota for quota in member.view.quotas}
            for member in members
        }
        self._governed = {
            member.name: frozenset(name for above in member.chain for name in quotas[above.name])
            for member in members
        }
        self._known: dict[str, set[str]] = {}
        self._same: dict[tuple[Account, ...], tuple[Account, ...]] = {}
        for member in members:
            self._known.setdefault(member.root.name, set()).update(quotas[member.name])
            for name in self._governed[member.name]:
                self._open(member, name)
        for member in members:
            for name, account in self._accounts[member.name].items():
                _fund(account, quotas[member.name].get(name))

    def of(self, member: Member, model: ModelKey) -> tuple[Account, ...]:
        """The accounts that a grant of this model to the member counts in, the narrowest class first."""
        classes = classes_of(model)
        counting = self._governed[member.name].intersection(classes) or self._known[member.root.name]
        return self.same(tuple(self._open(member, name) for name in classes if name in counting))

    def same(self, accounts: tuple[Account, ...]) -> tuple[Account, ...]:
        """The one tuple of these accounts, so that it can be compared by identity."""
        return self._same.setdefault(accounts, accounts)

    def _open(self, member: Member, name: str) -> Account:
        accounts = self._accounts[member.name]
        if name not in accounts:
            parent = None if member.parent is None else self._open(member.parent, name)
            accounts[name] = Account(member, name, parent)
        return accounts[name]


def _fund(account: Account, quota: Quota | None) -> None:
    """Add the member's own quota, and lend to the parent. Children come before their parents."""
    if quota is not None:
        account.granted = True
        account.own = quota.nominal_millis
        account.quota += quota.nominal_millis
        account.borrowing = quota.borrowing_millis
        if quota.lending_millis is not None:
            account.kept = max(0, account.quota - quota.lending_millis)
    if account.parent is not None:
        account.parent.quota += account.quota - account.kept
        account.parent.granted |= account.granted


class QuotaGrant:
    """What a grant of one model to one queue touches: the queue and its cohorts, and its accounts (narrowest
    class first). ``own``: those of them that the queue itself has a quota for, or all where it has none;
    ``limited``: those of the chain with a limit on all devices; ``spent``: a budget that is used up, and
    whose."""

    __slots__ = ("accounts", "capacity", "chain", "limited", "member", "model", "own", "root", "spent")

    def __init__(self, member: Member, model: ModelKey, accounts: Accounts, capacity: int) -> None:
        self.member = member
        self.model = model
        self.chain = member.chain
        self.root = member.root
        self.accounts = accounts.of(member, model)
        own = tuple(account for account in self.accounts if account.granted)
        self.own = accounts.same(own) if own else self.accounts
        self.capacity = capacity
        self.limited = tuple(above for above in member.chain if above.limit_millis is not None)
        self.spent = _spent(member, model)

    def is_open(self, millis: int) -> bool:
        """Whether so much more may be granted now."""
        if millis <= 0:
            return True
        if self.spent is not None:
            return False
        for above in self.limited:
            if above.limit_millis is not None and above.total + millis > above.limit_millis:
                return False
        return all(account.blocker(millis) is None for account in self.accounts)

    def borrows(self, millis: int) -> int:
        """The height of the cohort that it would borrow from for so much more; 0 = it keeps to its nominal
        quota in each class that it has one for, or no quota counts for it."""
        height = 0
        for account in self.own:
            if account.used + millis > account.quota:
                height = max(height, account.borrows(millis))
        return height


def _spent(member: Member, model: ModelKey) -> tuple[Member, PeriodBudget] | None:
    """The spent budget that renews last."""
    if not any(above.view.budgets for above in member.chain):
        return None
    covered = classes_of(model)
    spent = [
        (above, budget)
        for above in member.chain
        for budget in above.view.budgets
        if budget.device_class.lower() in covered
        and budget.spent_device_seconds >= budget.limit_device_seconds
    ]
    return max(spent, key=lambda pair: pair[1].renews_ms, default=None)
