"""Who may be moved now, and where to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from scheduler.core.model.runtimes import end_ms
from scheduler.core.model.types import Placement, RunningView, WorkloadView
from scheduler.core.placement.placing import Bounds, Stuck
from scheduler.core.placement.trial import Trial, millis_by_model

LEAST_LEFT_MS = 120_000
"""What ends within this time is not worth a move."""


class Movers:
    """The workloads that may be moved now. ``on_node``: by number of node, in a fixed order."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.views = {view.workload.uid: view for view in _movable(trial) if self._may_move(view)}
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
        self, uids: Iterable[str], barred: Iterable[int], moved: Iterable[str] = ()
    ) -> dict[str, Placement] | None:
        """Move them, largest first, to nodes that are not ``barred``; None where one finds no place (the
        trial is then to be rolled back). The new places are free while all, and those that ``moved``
        already, are still at their old ones."""
        trial, found = self.trial, dict[str, Placement]()
        mark = trial.mark()
        trial.pool.hide(barred)
        trial.pool.occupy(self.left_by(moved))
        for uid in sorted(uids, key=lambda uid: (-_millis(self.views[uid]), uid)):
            view = self.views[uid]
            held = millis_by_model(view.placement)
            placed = trial.place(_as_it_is(view), Bounds(models=tuple(sorted(held)) or None))
            if isinstance(placed, Stuck) or millis_by_model(placed) != held:
                return None
            found[uid] = placed
        trial.rollback(mark)
        for uid, placement in found.items():
            trial.resize(uid, placement)
        return found

    def left_by(self, uids: Iterable[str]) -> Placement:
        """Their old places."""
        return tuple(place for uid in uids for place in self.views[uid].placement)


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
