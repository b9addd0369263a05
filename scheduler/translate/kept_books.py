"""Quota books that are kept from cycle to cycle and told only what has changed."""

from __future__ import annotations

from scheduler.core.model.types import Placement, QueueView, RunningView
from scheduler.core.placement.holdings import items_by_model
from scheduler.core.pool.layout import ModelKey
from scheduler.core.pool.pool import Pool
from scheduler.core.quota.quota import QuotaTree

_Key = tuple[str, ModelKey]


class KeptBooks:
    """What runs holds, by queue and model, and a quota tree with that on it."""

    def __init__(self) -> None:
        self._held: dict[_Key, int] = {}
        self._booked: dict[_Key, int] = {}
        self._tree: QuotaTree | None = None
        self._made_for: tuple[tuple[QueueView, ...], dict[ModelKey, int]] | None = None

    def charge(self, view: RunningView) -> None:
        """It holds its places from now on."""
        _add(self._held, view.workload.queue, view.placement, 1)

    def refund(self, view: RunningView) -> None:
        """It holds them no more."""
        _add(self._held, view.workload.queue, view.placement, -1)

    def admitted(self, queue: str, placement: Placement) -> None:
        """A cycle has put this on the tree that was taken last."""
        _add(self._booked, queue, placement, 1)

    def forget(self) -> None:
        """Make the tree anew next time."""
        self._tree = None

    def take(self, queues: tuple[QueueView, ...], pool: Pool) -> QuotaTree:
        """The tree with what runs on it; the one of last time where queues and pool are as they were."""
        made_for = queues, dict(pool.capacity_millis())
        if self._tree is None or self._made_for != made_for:
            self._tree, self._made_for, self._booked = QuotaTree(*made_for), made_for, {}
        tree, held, booked = self._tree, self._held, self._booked
        for key in [key for key in booked.keys() | held.keys() if booked.get(key) != held.get(key)]:
            (queue, model), more = key, held.get(key, 0) - booked.get(key, 0)
            if more > 0:
                tree.charge(queue, model, more)
            else:
                tree.refund(queue, model, -more)
        self._booked = dict(held)
        return tree


def _add(held: dict[_Key, int], queue: str, placement: Placement, sign: int) -> None:
    for model, millis in items_by_model(placement):
        key = queue, model
        total = held.get(key, 0) + sign * millis
        if total:
            held[key] = total
        else:
            held.pop(key, None)
