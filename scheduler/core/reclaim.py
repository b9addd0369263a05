"""Who may take capacity back from whom.

Two ways, both between queues of one cohort tree, compared below their nearest common cohort:

- *Guaranteed*: with what it wants, the claimant (or a cohort on its side) stays within its nominal quota, and
  the victim and all cohorts on its side keep theirs.
- *Fairer*: the victim's side keeps its nominal quota in every class, and afterwards the claimant's side still
  has the smaller weighted share (Kueue's fair-sharing preemption, with a strict comparison).

Neither can go round in circles: the first only adds to what is used within nominal quotas and takes nothing
from it in that class or a narrower one; the second never lifts anyone to the share of its victim.
"""

from __future__ import annotations

from collections.abc import Mapping

from scheduler.core.device_classes import ModelKey
from scheduler.core.fairness import share_with
from scheduler.core.queue_members import Member
from scheduler.core.quota_accounts import Account, Grant


def may_take(claimant: Grant, victim: Grant, millis: int, capacity: Mapping[ModelKey, int]) -> bool:
    """Whether the claimant's queue may take so much of the model from what the victim's queue holds."""
    ours, theirs = _sides(claimant.chain, victim.chain)
    if not ours or not theirs or not 0 < millis <= victim.member.used.get(victim.model, 0):
        return False
    founded = _founded_on(claimant, len(ours), millis)
    if any(_keeps_nominal(victim, len(theirs), millis, device_class) for device_class in founded):
        return True
    return _keeps_nominal(victim, len(theirs), millis, None) and _is_fairer(
        ours[-1], theirs[-1], claimant.model, millis, capacity
    )


def keeps_nominal(claimant: Grant | None, victim: Grant, millis: int) -> bool:
    """Whether the victim's side, without so much of the model, still uses its nominal quota or more in every
    class. A claimant of another tree has no cohort in common with it."""
    theirs = _sides(claimant.chain, victim.chain)[1] if claimant is not None else ()
    return _keeps_nominal(victim, len(theirs or victim.chain), millis, None)


def _sides(
    ours: tuple[Member, ...], theirs: tuple[Member, ...]
) -> tuple[tuple[Member, ...], tuple[Member, ...]]:
    """Both chains below the nearest common cohort; empty where there is none."""
    for depth, member in enumerate(ours):
        if member in theirs:
            return ours[:depth], theirs[: theirs.index(member)]
    return (), ()


def _founded_on(claimant: Grant, levels: int, millis: int) -> list[str]:
    """The classes that the claim can be founded on: for each level that stays within nominal in all classes
    that it has a quota for, the narrowest of these."""
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
    return founded


def _keeps_nominal(victim: Grant, levels: int, millis: int, device_class: str | None) -> bool:
    """Whether the victim's side, without ``millis``, still uses its nominal quota or more, in
    ``device_class`` and the narrower ones; None = in all."""
    accounts = list(victim.accounts)
    if device_class is not None:
        names = [account.device_class for account in accounts]
        if device_class not in names:
            return False
        accounts = accounts[: names.index(device_class) + 1]
    return all(_stays_above(account, levels, millis) for account in accounts)


def _stays_above(account: Account, levels: int, millis: int) -> bool:
    return all(
        level.used - millis >= level.quota for level, _ in zip(account.levels(), range(levels), strict=False)
    )


def _is_fairer(
    ours: Member, theirs: Member, model: ModelKey, millis: int, capacity: Mapping[ModelKey, int]
) -> bool:
    after = share_with(ours, ours.view.weight, model, millis, capacity)
    return after < share_with(theirs, theirs.view.weight, model, -millis, capacity)
