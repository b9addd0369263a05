"""Who may take capacity back from whom.

Two ways, both between queues of one cohort tree, compared below their nearest common cohort:

- *Guaranteed*: with what it wants, the claimant (or a cohort on its side) stays within its nominal quota, and
  the victim and all cohorts on its side have more than theirs, even without what is less important than the
  victim in its queue. What runs as a whole goes as a whole, also
  where that is more than was borrowed: else a gang would be a way to keep what is borrowed.
- *Fairer*: the victim's side keeps its nominal quota in every class (again without what is less important in
  the victim's queue), as do the cohorts above both in those classes that count for the victim alone, and
  afterwards the claimant's side has
  no larger weighted share than it (Kueue's fair-sharing preemption); both then have a smaller one than the
  victim's side had. Who has no weight gives all that it borrows to whoever has one.

``below``: what that less important work uses by class, see ``precedence``. See ``docs/design/preemption.md``
for why neither way goes round in circles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scheduler.core.model.device_classes import ModelKey
from scheduler.core.quota.fairness import share_with
from scheduler.core.quota.queue_members import Member
from scheduler.core.quota.quota_accounts import Account, QuotaGrant


def borrows(
    victim: QuotaGrant, claimant: QuotaGrant, founded: Iterable[str], millis: int, below: Mapping[str, int]
) -> bool:
    """Whether the victim's side has at least ``millis`` more than its nominal quota, in one of the classes
    that the claim is founded on and all narrower ones."""
    _, theirs = sides(claimant.chain, victim.chain)
    return any(_exceeds_nominal(victim, len(theirs), name, millis, below) for name in founded)


def evens_out(
    claimant: QuotaGrant,
    victim: QuotaGrant,
    millis: int,
    wanted_millis: int,
    capacity: Mapping[ModelKey, int],
    below: Mapping[str, int],
) -> bool:
    """Whether it is fairer that the claimant's queue gets what it wants and the victim's loses ``millis``."""
    ours, theirs = sides(claimant.chain, victim.chain)
    if not ours or not theirs or not 0 <= millis <= victim.member.used.get(victim.model, 0):
        return False
    if not _keeps_nominal(victim, claimant, len(theirs), millis, below):
        return False
    member, after = ours[-1], theirs[-1]
    if member.view.weight and not after.view.weight:
        return True
    mine = share_with(member, member.view.weight, claimant.model, wanted_millis, capacity)
    left = share_with(after, after.view.weight, victim.model, -millis, capacity)
    return mine < left or (mine == left and left < after.share)


def is_beyond_nominal(
    victim: QuotaGrant, claimant: QuotaGrant, millis: int, below: Mapping[str, int]
) -> bool:
    """Whether the victim's side uses so much more than its nominal quota in every class, and what is above
    both in those that count for the victim alone."""
    _, theirs = sides(claimant.chain, victim.chain)
    return bool(theirs) and _keeps_nominal(victim, claimant, len(theirs), millis, below)


def sides(
    ours: tuple[Member, ...], theirs: tuple[Member, ...]
) -> tuple[tuple[Member, ...], tuple[Member, ...]]:
    """Both chains below the nearest common cohort; empty where there is none."""
    for depth, member in enumerate(ours):
        if member in theirs:
            return ours[:depth], theirs[: theirs.index(member)]
    return (), ()


def titles(claimant: QuotaGrant, levels: int, millis: int) -> tuple[str, ...]:
    """The classes in which the claimant's queue, or one of the cohorts above it (so many ``levels`` in all),
    has a right to so much more: for each level that stays within nominal in all classes that it has a quota
    for, the narrowest of these."""
    founded = []
    claims = [(account, millis) for account in claimant.accounts]
    for _ in range(levels):
        granted = [(account, amount) for account, amount in claims if account.granted]
        if granted and all(account.used + amount <= account.quota for account, amount in granted):
            founded.append(granted[0][0].device_class)
        claims = [
            (account.parent, max(0, amount - max(0, account.kept - account.used)))
            for account, amount in claims
            if account.parent is not None
        ]
    return tuple(founded)


def _keeps_nominal(
    victim: QuotaGrant, claimant: QuotaGrant, levels: int, millis: int, below: Mapping[str, int]
) -> bool:
    """Whether no nominal quota is used less after the victim's queue has lost ``millis`` to the claimant's.
    Above both of them one comes for one, but not in classes that do not count for the claimant."""
    shared = {account.device_class for account in claimant.accounts}
    return all(
        _stays_above(account, levels if account.device_class in shared else len(victim.chain), millis, below)
        for account in victim.accounts
    )


def _exceeds_nominal(
    victim: QuotaGrant, levels: int, device_class: str, millis: int, below: Mapping[str, int]
) -> bool:
    names = [account.device_class for account in victim.accounts]
    if device_class not in names:
        return False
    accounts = victim.accounts[: names.index(device_class) + 1]
    return all(_stays_above(account, levels, millis, below) for account in accounts)


def _stays_above(account: Account, levels: int, millis: int, below: Mapping[str, int]) -> bool:
    """Whether the account and those above it have ``millis`` more than their quotas, and all of ``below``."""
    less = below.get(account.device_class, 0)
    for level, _ in zip(account.levels(), range(levels), strict=False):
        if level.used - less - millis < level.quota:
            return False
        less = min(less, max(0, level.used - level.kept))
    return True
