"""What a queue says when it holds a workload back: which rule, with its numbers, and what would help."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from scheduler.core.model.device_classes import ACCELERATORS, ModelKey, classes_of
from scheduler.core.model.types import WHOLE_MILLIS, PeriodBudget
from scheduler.core.quota.queue_members import Member
from scheduler.core.quota.quota_accounts import Account, QuotaGrant


@dataclass(frozen=True, slots=True)
class QuotaRefusal:
    """Why a workload may not start now, by its queue. ``never``: not even if nobody else used anything.

    Codes: ``QueueUnknown``, ``QueueNotAllowed``, ``QueueLimit`` (devices in total), ``QuotaExhausted`` (the
    queue's own quota and what it may borrow), ``CohortExhausted`` (nothing left to borrow),
    ``NotPreemptible`` (it may not borrow), ``BudgetSpent``.
    """

    code: str
    message: str
    remedy: str
    never: bool = False


def unknown(name: str) -> QuotaRefusal:
    return QuotaRefusal("QueueUnknown", f"there is no queue {name}", f"apply a Queue named {name}")


def no_queue_but_cohort(cohort: Member) -> QuotaRefusal:
    queues = sorted(child.name for child in cohort.children if not child.is_cohort)
    remedy = f"use one of: {', '.join(queues)}" if queues else f"add a Queue to cohort {cohort.name}"
    return QuotaRefusal("QueueUnknown", f"there is no queue {cohort.name}: it is a cohort", remedy)


def not_allowed(name: str, project: str, allowed: Sequence[str]) -> QuotaRefusal:
    who = f"project {project}" if project else "the project"
    return QuotaRefusal(
        "QueueNotAllowed", f"{who} may not use queue {name}", f"use one of: {', '.join(allowed)}"
    )


def first_refusal(grants: Sequence[QuotaGrant], need: Mapping[ModelKey, int]) -> QuotaRefusal | None:
    """The rule that holds ``need`` back, what can never be before what can wait; None = may start.
    ``grants``: one for each model needed, all of one queue."""
    if not grants:
        return None
    amounts = _amounts(grants, need)
    spent = next((grant.spent for grant in grants if grant.spent is not None), None)
    return (
        _never(grants[0], amounts, need)
        or (None if spent is None else _spent(*spent))
        or _not_now(grants[0], amounts, need)
    )


def over_pledge(
    account: Account, millis: int, most: int, over: int, need: Mapping[ModelKey, int]
) -> QuotaRefusal:
    """The answer for one that may not be preempted and would borrow. ``most``: what such workloads of its
    queue can have in all; ``over``: how much of that it lacks."""
    what, never = _what(account, need), millis > most
    message = (
        f"{_name(account.member)}: what may not be preempted may not borrow: needs {_some(millis, what)},"
        f" {_devices(most)} nominal"
    )
    if never:
        remedy = f"make it preemptible, raise the quota by {_devices(millis - most)}, or ask for less"
        return QuotaRefusal("NotPreemptible", message, remedy, never=True)
    message += f", {_devices(most - millis + over)} of that held by others like it"
    free = f"{_some(over, what)} of workloads like it {_come(over)} free"
    remedy = f"make it preemptible, or {free}"
    return QuotaRefusal("NotPreemptible", message, remedy)


def _never(
    grant: QuotaGrant, amounts: Mapping[Account, int], need: Mapping[ModelKey, int]
) -> QuotaRefusal | None:
    total = sum(need.values())
    for above in grant.limited:
        if above.limit_millis is not None and total > above.limit_millis:
            return _over_limit(above, total, above.limit_millis)
    for account, millis in amounts.items():
        if millis > account.most():
            return _over_quota(grant.member, account, millis, need)
    return None


def _not_now(
    grant: QuotaGrant, amounts: Mapping[Account, int], need: Mapping[ModelKey, int]
) -> QuotaRefusal | None:
    total = sum(need.values())
    for above in grant.limited:
        if above.limit_millis is not None and above.total + total > above.limit_millis:
            return _at_limit(above, total, above.limit_millis)
    for account, millis in amounts.items():
        blocker = account.blocker(millis)
        if blocker is account:
            return _at_quota(account, millis, need)
        if blocker is not None:
            return _at_cohort(account, blocker, millis, need)
    return None


def _amounts(grants: Iterable[QuotaGrant], need: Mapping[ModelKey, int]) -> dict[Account, int]:
    amounts: dict[Account, int] = {}
    for grant in grants:
        for account in grant.accounts:
            amounts[account] = amounts.get(account, 0) + need[grant.model]
    return amounts


def _over_limit(above: Member, total: int, limit: int) -> QuotaRefusal:
    need, most = _devices(total), _devices(limit)
    message = f"never fits in {_name(above)}: needs {_some(total)}, maxDevices is {most}"
    return QuotaRefusal("QueueLimit", message, f"raise maxDevices to {need} or ask for less", never=True)


def _at_limit(above: Member, total: int, limit: int) -> QuotaRefusal:
    used, most = _devices(above.total), _devices(limit)
    message = f"waits for {_name(above)}: needs {_some(total)}, {used} of maxDevices {most} are in use"
    kind, missing = "cohort" if above.is_cohort else "queue", total + above.total - limit
    return QuotaRefusal("QueueLimit", message, f"{_some(missing)} of the {kind} {_come(missing)} free")


def _over_quota(member: Member, account: Account, millis: int, need: Mapping[ModelKey, int]) -> QuotaRefusal:
    what, most = _what(account, need), account.most()
    message = f"never fits in queue {member.name}: needs {_some(millis, what)}, {_grants(account)}"
    own = account.parent is None or (
        account.borrowing is not None and millis > account.quota + account.borrowing
    )
    if not own:
        message += f", and could use at most {_devices(most)} in {_cohort(account)}"
    remedy = f"raise the quota by {_devices(millis - most)} or ask for less"
    return QuotaRefusal("QuotaExhausted" if own else "CohortExhausted", message, remedy, never=True)


def _at_quota(account: Account, millis: int, need: Mapping[ModelKey, int]) -> QuotaRefusal:
    what, missing = _what(account, need), account.used + millis - account.quota - (account.borrowing or 0)
    message = (
        f"{_name(account.member)}: needs {_some(millis, what)}, {_grants(account)},"
        f" {_devices(account.used)} in use"
    )
    remedy = (
        f"{_some(missing, what)} {_come(missing)} free in {_name(account.member)}, or its quota is raised"
    )
    return QuotaRefusal("QuotaExhausted", message, remedy)


def _at_cohort(account: Account, blocker: Account, millis: int, need: Mapping[ModelKey, int]) -> QuotaRefusal:
    what, room = _what(account, need), account.room()
    own = max(0, account.quota - account.used)
    cohort = _name(blocker.member)
    message = (
        f"{_name(account.member)}: needs {_some(millis, what)}, has {_devices(account.quota)} nominal,"
        f" {_devices(account.used)} in use, {_devices(max(0, room - own))} left to borrow in {cohort}"
    )
    if own > max(0, room):
        message += f", {_devices(own - max(0, room))} of its own are lent"
    missing = millis - room
    remedy = f"{_some(missing, what)} {_come(missing)} free in {cohort}"
    return QuotaRefusal("CohortExhausted", message, remedy)


def _spent(above: Member, budget: PeriodBudget) -> QuotaRefusal:
    what = "accelerators" if budget.device_class == ACCELERATORS else budget.device_class
    renews = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=budget.renews_ms)
    when = f"{renews:%Y-%m-%d %H:%M} UTC"
    message = (
        f"{_name(above)}: {_hours(budget.spent_device_seconds)} of {_hours(budget.limit_device_seconds)}"
        f" device-hours of {what} are spent, renews {when}"
    )
    return QuotaRefusal("BudgetSpent", message, f"wait until {when}, or raise the budget")


def _grants(account: Account) -> str:
    text = f"has {_devices(account.quota)} nominal"
    if account.parent is None or account.borrowing is None:
        return text
    return f"{text} and may borrow {_devices(account.borrowing)}"


def _what(account: Account, need: Mapping[ModelKey, int]) -> str:
    """The class as its owner knows it: ``of nvidia/H100``."""
    if account.device_class == ACCELERATORS:
        return "accelerators"
    vendor, model = next(key for key in need if account.device_class in classes_of(key))
    return f"of {vendor}/{model}" if "/" in account.device_class else f"of {vendor}"


def _name(member: Member) -> str:
    return f"{'cohort' if member.is_cohort else 'queue'} {member.name}"


def _cohort(account: Account) -> str:
    return f"cohort {account.parent.member.name}" if account.parent else _name(account.member)


def _devices(millis: int) -> str:
    return f"{millis / WHOLE_MILLIS:.10g}"


def _some(millis: int, what: str = "devices") -> str:
    """So many of ``what``, which is a plural or says of which class they are."""
    is_one = millis == WHOLE_MILLIS and not what.startswith("of ")
    return f"{_devices(millis)} {what.removesuffix('s') if is_one else what}"


def _come(millis: int) -> str:
    return "comes" if millis == WHOLE_MILLIS else "come"


def _hours(seconds: int) -> str:
    return f"{round(seconds / 3600, 1):.10g}"
