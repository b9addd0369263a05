"""What runs, in four numbers: from them it is told at once that nobody can give way to a claimant."""

from __future__ import annotations

from typing import NamedTuple

from scheduler.core.placement.trial import Trial

NOTHING = 1 << 62
"""The least priority of nothing."""


class Outline(NamedTuple):
    """The least priority of what ran when the trial began, and of what had run for the least time; whether
    anything was leaving. ``NOTHING``: there was none. ``ends``: whether any end is foreseeable."""

    lowest: int
    lowest_ripe: int
    leaving: bool
    ends: bool

    @staticmethod
    def of(trial: Trial) -> Outline:
        """That of the trial, made when first asked for."""
        return trial.once(Outline, _outline)

    def helps(self, priority: int, *, reclaims: bool = False) -> bool:
        """Whether any of them may have to give way to this priority, or does so already. ``reclaims``: to
        one whose queue may take back what it lent from whatever priority."""
        if self.leaving or self.lowest < priority or self.lowest_ripe <= priority:
            return True
        return reclaims and self.lowest_ripe < NOTHING


def _outline(trial: Trial) -> Outline:
    ripe_ms = trial.now_ms - trial.tree.least_reclaim_seconds(trial.policy.min_run_seconds) * 1000
    lowest = lowest_ripe = NOTHING
    leaving = ends = False
    for one in trial.at_start:
        workload = one.workload
        if workload.priority < lowest:
            lowest = workload.priority
        if workload.priority < lowest_ripe and one.started_ms <= ripe_ms:
            lowest_ripe = workload.priority
        leaving = leaving or one.leaving
        ends = ends or workload.expected_seconds is not None or one.ends_ms is not None
    return Outline(lowest, lowest_ripe, leaving, ends)
