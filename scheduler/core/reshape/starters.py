"""Elastic workloads that start in one cycle share what there is: what one has beyond its least keeps no equal
one (of its queue and priority) waiting, and equal ones get the same part of what they could have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from scheduler.core.model.types import Admit, Assignment, Decision, Placement, RunningView, WorkloadView
from scheduler.core.placement.placing import Bounds
from scheduler.core.placement.trial import Trial
from scheduler.core.reshape.elastic import (
    Growth,
    fullest_role,
    is_elastic,
    part_held,
    spare_ranks,
    within_quota,
    without,
)
from scheduler.core.tide.tides import within_tide

LOOKED_AT = 64
"""So many equal ones are asked for ranks, the last that came."""


class Starters:
    """Those that start in one cycle, by queue and priority."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._equals: dict[tuple[str, int], list[str]] = defaultdict(list)
        self._changed: set[str] = set()

    def came(self, workload: WorkloadView) -> None:
        """It has been admitted. Where it has a smaller part of its ranks than an equal one, that one gives it
        of its own, rank by rank."""
        if not is_elastic(workload):
            return
        equals = self._equals[workload.queue, workload.priority]
        equals.append(workload.uid)
        while len(equals) > 1 and self._part(workload.uid) < 1 and self._hand_over(equals, workload.uid):
            pass

    def make_way(self, workload: WorkloadView) -> Placement | None:
        """Places, on the pool, for one that finds none, from what equal ones have beyond their least, and of
        that as little as can be; None with the trial as it was."""
        equals = self._equals.get((workload.queue, workload.priority))
        if not equals:
            return None
        spare = sum(sum(self._spare(uid).values()) for uid in equals[-LOOKED_AT:])
        failed, tried = 0, min(1, spare)
        while failed < tried and not self._fits_without(tried, workload, equals):
            failed, tried = tried, min(2 * tried, spare)
        if failed == tried:
            return None
        while tried - failed > 1:
            middle = (tried + failed) // 2
            if self._fits_without(middle, workload, equals):
                tried = middle
            else:
                failed = middle
        self._give_up(tried, equals)
        return self._place(workload)

    def as_they_are(self, decisions: Sequence[Decision]) -> list[Decision]:
        """The decisions with the places that those admitted have in the end."""
        if not self._changed:
            return list(decisions)
        running = self._trial.running
        return [
            Admit(each.uid, running[each.uid].placement)
            if isinstance(each, Admit) and each.uid in self._changed
            else each
            for each in decisions
        ]

    # -- from one to another

    def _hand_over(self, equals: Sequence[str], uid: str) -> bool:
        """A rank of the one that has the largest part of its ranks, where that is not too large a step."""
        others = [other for other in equals[-LOOKED_AT:] if other != uid and any(self._spare(other).values())]
        if not others:
            return False
        giver = max(reversed(others), key=self._part)
        mark, growth = self._trial.mark(), Growth(self._trial)
        self._shrink(giver)
        if growth.add_rank(self._trial.running[uid]) and self._part(giver) >= self._part(uid):
            self._note(giver)
            self._note(uid)
            return True
        self._trial.rollback(mark)
        return False

    def _fits_without(self, ranks: int, workload: WorkloadView, equals: Sequence[str]) -> bool:
        mark = self._trial.mark()
        self._give_up(ranks, equals)
        found = self._place(workload) is not None
        self._trial.rollback(mark)
        return found

    def _give_up(self, ranks: int, equals: Sequence[str]) -> None:
        """So many ranks, each of whoever has the largest part of its own then; of equals the last."""
        for _ in range(ranks):
            able = [uid for uid in reversed(equals[-LOOKED_AT:]) if any(self._spare(uid).values())]
            giver = max(able, key=self._part)
            self._shrink(giver)
            self._note(giver)

    def _note(self, uid: str) -> None:
        """What was decided about it is not how it is any more."""
        if uid not in self._changed:
            self._changed.add(uid)
            self._trial.remember(partial(self._changed.discard, uid))

    def _shrink(self, uid: str) -> None:
        """It has one rank less."""
        running = self._trial.running[uid]
        last = _last_spare(running)
        self._trial.resize(uid, without(running.placement, (last,)))

    def _place(self, workload: WorkloadView) -> Placement | None:
        """Places on the pool; where it finds none the trial is for whoever asked to roll back."""
        trial = self._trial
        fitted = within_tide(trial, workload) if trial.policy.tides else workload
        bounds = None if fitted is None else trial.bounds_for(fitted)
        if fitted is None or not isinstance(bounds, Bounds):
            return None
        found = trial.place(fitted, bounds)
        if isinstance(found, tuple):
            found = within_quota(trial, fitted, found)
            if trial.refusal(fitted, found) is None:
                return found
        return None

    def _spare(self, uid: str) -> dict[str, int]:
        return spare_ranks(self._trial.running[uid])

    def _part(self, uid: str) -> float:
        return part_held(self._trial.running[uid])


def _last_spare(running: RunningView) -> Assignment:
    role = fullest_role(running.workload, spare_ranks(running))
    return next(one for one in reversed(running.placement) if one.role == role)
