"""What may not be preempted may not borrow: it would never give back what it borrowed.

Its queue has to have all of it within nominal quota, its own or that of a cohort above it which no other
queue has as its own, counting only what may not be preempted either: all else would make way (KAI's rule for
non-preemptible work over the deserved quota).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scheduler.core.model.device_classes import ModelKey
from scheduler.core.model.types import WorkloadView
from scheduler.core.quota.quota import QuotaTree
from scheduler.core.quota.quota_accounts import Account, QuotaGrant
from scheduler.core.quota.refusals import QuotaRefusal, over_pledge


class Pledges:
    """What workloads that may not be preempted hold, by account."""

    def __init__(self, tree: QuotaTree) -> None:
        self._tree = tree
        self._held: dict[Account, int] = {}

    def change(self, workload: WorkloadView, held: Mapping[ModelKey, int], sign: int) -> None:
        """A workload has come (1) or gone (-1); only those that may not be preempted count."""
        member = None if workload.preemptible else self._tree.member(workload.queue)
        if member is None:
            return
        for model, millis in held.items():
            for account in self._tree.grant_of(member, model).own:
                for level, amount in self._passed(account, sign * millis):
                    self._held[level] = self._held.get(level, 0) + amount

    def refusal(self, queue: str, needs: Mapping[ModelKey, int]) -> QuotaRefusal | None:
        """Why a workload of the queue that may not be preempted may not have all of this; None = it may."""
        for grant, millis in self._grants(queue, needs):
            for account in grant.own:
                top, amount = self._passed(account, millis)[-1]
                over = self._held.get(top, 0) + amount - top.own
                if over > 0:
                    most = sum(level.own for level in account.levels())
                    return over_pledge(account, millis, most, over, needs)
        return None

    def open_models(self, queue: str, needs: Mapping[ModelKey, int]) -> tuple[ModelKey, ...]:
        """Those models of which it may have what it needs."""
        return tuple(model for model, millis in needs.items() if self.refusal(queue, {model: millis}) is None)

    def _grants(self, queue: str, needs: Mapping[ModelKey, int]) -> Iterable[tuple[QuotaGrant, int]]:
        member = self._tree.member(queue)
        if member is None:
            return ()
        return [(self._tree.grant_of(member, model), millis) for model, millis in needs.items() if millis]

    def _passed(self, account: Account, millis: int) -> list[tuple[Account, int]]:
        """How much more (or less) each level would hold: what goes beyond a level's own passes on to the one
        above it."""
        passed: list[tuple[Account, int]] = []
        level: Account | None = account
        while level is not None and millis:
            passed.append((level, millis))
            held = self._held.get(level, 0)
            millis = max(0, held + millis - level.own) - max(0, held - level.own)
            level = level.parent
        return passed
