"""Who may be moved now, and where to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from scheduler.core.model.runtimes import end_ms
from scheduler.core.model.types import Assignment, Placement, RunningView, Share, WorkloadView
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.placing import Bounds, Stuck
from scheduler.core.placement.residual import residual_capacity
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.layout import MEMORY_BITS, MEMORY_MASK, MIB

LEAST_LEFT_MS = 120_000
"""What ends within this time is not worth a move."""


class Movers:
    """The workloads that may be moved now. ``on_node``: by number of node, in a fixed order."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.views = {view.workload.uid: view for view in _movable(trial) if self._may_move(view)}
        self._left: dict[str, Placement] = {}
        self.on_node: dict[int, list[str]] = {}
        for uid in sorted(self.views):
            for name in sorted({assignment.node for assignment in self.views[uid].placement}):
                number = trial.pool.number(name)
                if number is not None and trial.pool.listed[number]:
                    self.on_node.setdefault(number, []).append(uid)

    def _may_move(self, view: RunningView) -> bool:
        """It has run for the least run time, is not about to end, and nothing was decided about it in this
        cycle."""
        trial = self.trial
        if view.leaving or trial.changed.get(view.workload.uid, view) is not view:
            return False
        if trial.now_ms - view.started_ms < trial.policy.min_run_seconds * 1000:
            return False
        ends_ms = end_ms(view, trial.now_ms)
        return ends_ms is None or ends_ms - trial.now_ms >= LEAST_LEFT_MS

    def cost(self, uids: Iterable[str]) -> tuple[int, int, int]:
        """How much it takes to move them: how many, the most important one, millis."""
        views = [self.views[uid] for uid in uids]
        most = max((view.workload.priority for view in views), default=0)
        return len(views), most, sum(_millis(view) for view in views)

    def move(
        self,
        uids: Sequence[str],
        barred: Iterable[int],
        moved: Iterable[str] = (),
        within: int | None = None,
    ) -> dict[str, Placement] | None:
        """Move them, largest first, to nodes that are not ``barred``; None where one finds no place (the
        trial is then to be rolled back). The new places are free while all, and those that ``moved``
        already, are still at their old ones.

        ``within``: they leave only their devices on this node, and may go to its other devices; what they
        have on other nodes they may keep."""
        trial, found = self.trial, dict[str, Placement]()
        mark = trial.mark()
        trial.pool.hide(barred)
        trial.pool.occupy(self.left_by(moved))
        if within is not None:
            trial.pool.occupy(self._rests(uids, within))
        for uid in sorted(uids, key=lambda uid: (-_millis(self.views[uid]), uid)):
            view = self.views[uid]
            held = millis_by_model(view.placement)
            keeps = () if within is None else self._elsewhere(view, within)
            trial.pool.vacate(keeps)
            placed = trial.place(_as_it_is(view), Bounds(models=tuple(sorted(held)) or None))
            if isinstance(placed, Stuck) or millis_by_model(placed) != held:
                return None
            trial.pool.occupy(residual_capacity(keeps, placed))
            self._left[uid] = view.placement if within is None else residual_capacity(view.placement, placed)
            found[uid] = placed
        trial.rollback(mark)
        for uid, placement in found.items():
            trial.resize(uid, placement)
        return found

    def left_by(self, uids: Iterable[str]) -> Placement:
        """The old places of those that have moved, without what they keep of them."""
        return tuple(place for uid in uids for place in self._left[uid])

    def places_on(self, uids: Iterable[str], number: int) -> Placement:
        """What they hold on a node."""
        name = self.trial.pool.view(number).name
        return tuple(place for uid in uids for place in self.views[uid].placement if place.node == name)

    def _elsewhere(self, view: RunningView, number: int) -> Placement:
        """What it holds on other nodes that are not kept out of sight."""
        pool = self.trial.pool
        nodes = {place.node: pool.number(place.node) for place in view.placement}
        kept = {name for name, n in nodes.items() if n is not None and n != number and not pool.is_hidden(n)}
        return tuple(place for place in view.placement if place.node in kept)

    def _rests(self, uids: Iterable[str], number: int) -> Placement:
        """What is free of the devices that they hold on a node."""
        usage = self.trial.pool.usage[number]
        held = {share.device: share for place in self.places_on(uids, number) for share in place.shares}
        rests: list[Share] = []
        for device, share in held.items():
            position = usage.position_of.get(device)
            entry = 0 if position is None else usage.entries[position]
            if entry:
                memory_bytes = (entry & MEMORY_MASK) * MIB
                rests.append(share._replace(millis=entry >> MEMORY_BITS, memory_bytes=memory_bytes))
        return (Assignment("", 0, 0, usage.view.name, tuple(rests)),) if rests else ()


class _Movable(list[RunningView]):
    """What ran when a cycle began and lets itself be moved."""


def _movable(trial: Trial) -> list[RunningView]:
    """Looked for once in a trial."""
    return trial.once(_Movable, lambda trial: _Movable(v for v in trial.at_start if v.workload.movable))


def _millis(view: RunningView) -> int:
    return sum(millis_by_model(view.placement).values())


def _as_it_is(view: RunningView) -> WorkloadView:
    """The workload with exactly the ranks that it has."""
    roles = []
    for role in view.workload.roles:
        held = sum(assignment.role == role.name for assignment in view.placement)
        if held:
            roles.append(replace(role, replicas=held, min_replicas=None))
    return replace(view.workload, roles=tuple(roles))
