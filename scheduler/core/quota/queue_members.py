"""Queues and cohorts as a tree of members that know what they use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from common.errors import InvalidInput
from scheduler.core.model.device_classes import CPU, ModelKey, is_class
from scheduler.core.model.types import WHOLE_MILLIS, QueueView, Quota
from scheduler.core.quota.fairness import recent_share, weighted
from scheduler.core.quota.queue_rules import DEFAULTS, inherited


class Member:
    """A queue or cohort. ``used``: millis by model, of itself and all below it; ``dominant``: the largest
    part of a model's capacity that this is; ``share``: what fairness compares (``fairness``). ``version``
    counts the changes in the whole tree and is kept at its root, ``charges`` those of a queue's own use.
    ``height``: how many levels are below it, 0 for a queue. ``rules``: its own and those that it has from
    above."""

    __slots__ = (
        "chain",
        "charges",
        "children",
        "dominant",
        "height",
        "limit_millis",
        "name",
        "parent",
        "recent",
        "root",
        "rules",
        "share",
        "total",
        "used",
        "version",
        "view",
    )

    def __init__(self, view: QueueView) -> None:
        self.view = view
        self.name = view.name
        self.parent: Member | None = None
        self.children: list[Member] = []
        self.chain: tuple[Member, ...] = (self,)
        self.root: Member = self
        self.limit_millis = None if view.max_devices is None else view.max_devices * WHOLE_MILLIS
        self.used: dict[ModelKey, int] = {}
        self.total = 0
        self.rules = inherited(view.rules, DEFAULTS)
        self.version = 0
        self.charges = 0
        self.height = 0
        self.recent = 0.0
        self.dominant = 0.0
        self.share = 0.0

    @property
    def is_cohort(self) -> bool:
        return self.view.is_cohort or bool(self.children)

    def settle(self) -> None:
        """Compute ``share`` anew from its parts."""
        self.share = weighted(self.dominant + self.recent, self.view.weight)


def grow_tree(queues: Sequence[QueueView], capacity: Mapping[ModelKey, int]) -> dict[str, Member]:
    """All members by name. A parent that is not among ``queues`` is a cohort without quotas of its own.

    Raises ``InvalidInput`` on names that occur twice, parents in a circle, negative numbers and unknown
    classes.
    """
    members: dict[str, Member] = {}
    for view in sorted(queues, key=lambda view: view.name):
        if view.name in members:
            raise InvalidInput(f"there are two queues named {view.name}", param="name")
        _check(view)
        members[view.name] = Member(view)
    for name in sorted({view.parent for view in queues if view.parent} - members.keys()):
        members[name] = Member(QueueView(name, is_cohort=True))
    for member in members.values():
        if member.view.parent:
            member.parent = members[member.view.parent]
            member.parent.children.append(member)
    for member in members.values():
        member.chain = _chain(member)
        member.root = member.chain[-1]
        for height, above in enumerate(member.chain):
            above.height = max(above.height, height)
        for above in reversed(member.chain):
            member.rules = inherited(above.view.rules, DEFAULTS if above is member.root else member.rules)
    _settle_recent(members.values(), capacity)
    return members


def stranger(name: str) -> Member:
    """A queue that no one has declared: it comes after all others."""
    member = Member(QueueView(name))
    member.share = math.inf
    return member


def _chain(member: Member) -> tuple[Member, ...]:
    chain = [member]
    while (parent := chain[-1].parent) is not None:
        if parent in chain:
            raise InvalidInput(f"queue {parent.name} is its own ancestor", param="parent")
        chain.append(parent)
    return tuple(chain)


def _settle_recent(members: Iterable[Member], capacity: Mapping[ModelKey, int]) -> None:
    accelerators = sum(millis for (vendor, _), millis in capacity.items() if vendor != CPU)
    total = accelerators or sum(capacity.values())
    members = list(members)
    for member in members:
        part = recent_share(member.view.decayed_use, total)
        for above in member.chain:
            above.recent += part
    for member in members:
        member.settle()


def _check(view: QueueView) -> None:
    if view.weight < 0:
        raise InvalidInput(f"queue {view.name}: weight is negative", param="weight")
    if view.max_devices is not None and view.max_devices < 0:
        raise InvalidInput(f"queue {view.name}: maxDevices is negative", param="max_devices")
    _check_rules(view)
    seen: set[str] = set()
    for quota in view.quotas:
        _check_quota(view.name, quota)
        if quota.device_class.lower() in seen:
            raise InvalidInput(f"queue {view.name}: two quotas for {quota.device_class}", param="quotas")
        seen.add(quota.device_class.lower())
    for budget in view.budgets:
        if not is_class(budget.device_class):
            raise InvalidInput(f"queue {view.name}: no device class {budget.device_class!r}", param="budgets")
        if budget.limit_device_seconds < 0:
            raise InvalidInput(f"queue {view.name}: a budget is negative", param="budgets")


def _check_rules(view: QueueView) -> None:
    for name in ("preempt_min_runtime_seconds", "reclaim_min_runtime_seconds"):
        seconds = getattr(view.rules, name)
        if seconds is not None and seconds < 0:
            raise InvalidInput(f"queue {view.name}: {name} is negative", param=name)


def _check_quota(name: str, quota: Quota) -> None:
    if not is_class(quota.device_class):
        raise InvalidInput(f"queue {name}: no device class {quota.device_class!r}", param="quotas")
    if min(quota.nominal_millis, quota.borrowing_millis or 0, quota.lending_millis or 0) < 0:
        raise InvalidInput(f"queue {name}: a quota for {quota.device_class} is negative", param="quotas")
