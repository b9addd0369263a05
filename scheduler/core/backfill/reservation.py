"""Room held for the first of those that wait, and who may use it until they come.

Backfilling as in the EASY scheduler (Lifka, "The ANL/IBM SP Scheduling System", JSSPP 1995), with several
reservations (Mu'alem and Feitelson, "Utilization, Predictability, Workloads, and User Runtime Estimates in
Scheduling the IBM SP2 with Backfilling", IEEE TPDS 2001). See ``docs/design/backfill.md``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.backfill.releases import NEVER_MS, Releases, earliest_room
from scheduler.core.model.runtimes import longest_ms, run_ms
from scheduler.core.model.types import Placement, WorkloadView
from scheduler.core.placement.affinity import has_wishes
from scheduler.core.placement.placing import ANYWHERE, Bounds, Stuck
from scheduler.core.placement.trial import Trial


@dataclass(frozen=True, slots=True)
class Reservation:
    """``uid`` will start at ``start_ms`` as ``placement``; ``nodes`` (their numbers in the pool) are held for
    it. ``ends_ms``: when it will be through; None = not foreseeable."""

    uid: str
    start_ms: int
    nodes: tuple[int, ...]
    placement: Placement
    ends_ms: int | None = None


def reserve(
    trial: Trial, workload: WorkloadView, bounds: Bounds = ANYWHERE, earlier: Sequence[Reservation] = ()
) -> Reservation | None:
    """The earliest start, by the expected ends of what runs, of a workload that does not fit now; None where
    that is not foreseeable.

    ``earlier`` reservations (their nodes hidden) take their places when they start and give them back when
    they end; until then their nodes are free for whoever ends before. The trial is left as it was: nothing
    is hidden yet.
    """
    if not trial.outline.ends and not earlier and not _admitted_end(trial):
        return None
    mark = trial.mark()
    try:
        return _Search(trial, workload, bounds, earlier).run()
    finally:
        trial.rollback(mark)


def _admitted_end(trial: Trial) -> bool:
    """Whether anything that came in this trial has a foreseeable end."""
    return any(
        view is not None and view.workload.expected_seconds is not None for view in trial.changed.values()
    )


def backfill_nodes(
    reservations: Sequence[Reservation], workload: WorkloadView, now_ms: int
) -> tuple[int, ...]:
    """The reserved nodes that it may use because it ends before each of their holders starts, even with the
    fewest ranks. None for a workload without an expected end."""
    length_ms = longest_ms(workload)
    if length_ms is None:
        return ()
    free: set[int] = set()
    held: set[int] = set()
    for reservation in reservations:
        (free if now_ms + length_ms <= reservation.start_ms else held).update(reservation.nodes)
    return tuple(sorted(free - held))


def backfill(
    trial: Trial, workload: WorkloadView, bounds: Bounds, reservations: Sequence[Reservation]
) -> Placement | None:
    """Places on any nodes that are not held and on those held ones that it may use; left on the pool. None
    with the trial as it was."""
    nodes = backfill_nodes(reservations, workload, trial.now_ms)
    if not nodes:
        return None
    mark = trial.mark()
    trial.pool.unhide(nodes)
    found = trial.place(workload, bounds)
    if isinstance(found, Stuck):
        trial.rollback(mark)
        return None
    trial.pool.hide(nodes)
    return found


class _Search:
    """Goes forward in time on the trial, from when the room can suffice at the earliest. Between two starts
    of earlier reservations room only grows, so that the first moment with enough is found by doubling and
    bisection."""

    def __init__(
        self, trial: Trial, workload: WorkloadView, bounds: Bounds, earlier: Sequence[Reservation]
    ) -> None:
        self._trial = trial
        self._workload = workload
        self._bounds = bounds
        self._earlier = earlier
        self._choosy = has_wishes(workload)
        self._length_ms = longest_ms(workload)
        self._times: list[int] = []
        self._releases = Releases.of(trial)

    def run(self) -> Reservation | None:
        self._trial.pool.unhide(sorted({number for held in self._earlier for number in held.nodes}))
        soonest_ms = self._look_ahead()
        if soonest_ms == NEVER_MS:
            return None
        hopeless, first = bisect_left(self._times, soonest_ms), 0
        for last in self._breaks():
            known = min(max(first, hopeless), last)
            self._happen(first, known)
            found = self._within(known, last)
            if found is not None:
                return found
            first = last
        return None

    # -- what is ahead

    def _look_ahead(self) -> int:
        """Put what comes free into the order in which it can matter: on nodes that can not take any rank yet
        it does not. Returns when there can be room for all at the earliest."""
        pool, releases = self._trial.pool, self._releases
        first_ms = np.full(len(pool.usage), NEVER_MS, dtype=np.int64)
        soonest_ms = self._trial.now_ms
        for role in self._workload.roles:
            view = earliest_room(releases, pool, pool.shape(role.request, self._bounds.models), role.least)
            first_ms = np.minimum(first_ms, view.first_ms)
            soonest_ms = max(soonest_ms, view.all_ms)
        if self._choosy:
            first_ms[:] = -NEVER_MS
        matters_ms = np.maximum(releases.ends_ms, first_ms[releases.nodes])
        order = np.argsort(matters_ms, kind="stable")
        self._matters_ms = matters_ms[order][: np.count_nonzero(matters_ms < NEVER_MS)]
        self._ranks = order[: len(self._matters_ms)]
        times = set(np.unique(self._matters_ms).tolist())
        times.update(held.start_ms for held in self._earlier)
        times.update(held.ends_ms for held in self._earlier if held.ends_ms is not None)
        self._times = sorted(times)
        return soonest_ms

    def _breaks(self) -> list[int]:
        """Up to which moments (exclusive) room only grows and the same nodes are barred."""
        cuts: list[int] = []
        for held in self._earlier:
            cuts.append(held.start_ms)
            if self._length_ms is not None:
                cuts.append(held.start_ms - self._length_ms + 1)
        times = self._times
        return sorted({bisect_left(times, cut) for cut in cuts} - {0} | {len(times)})

    # -- going forward

    def _within(self, first: int, last: int) -> Reservation | None:
        """The first of the moments [first, last) with room. All of them have happened when there is none."""
        done, step = first, 1
        while done < last:
            mark, upto = self._trial.mark(), min(done + step, last)
            self._happen(done, upto)
            found = self._place_at(upto - 1)
            if found is not None:
                self._trial.rollback(mark)
                return self._exact(done, upto, found)
            done, step = upto, step * 2
        return None

    def _exact(self, without: int, upto: int, found: Placement) -> Reservation:
        """There is room when the moments before ``upto`` have happened, as ``found``, but not yet when only
        those before ``without`` have."""
        while upto - without > 1:
            mark, middle = self._trial.mark(), (without + upto) // 2
            self._happen(without, middle)
            sooner = self._place_at(middle - 1)
            if sooner is None:
                without = middle
            else:
                self._trial.rollback(mark)
                upto, found = middle, sooner
        return self._reservation(self._times[upto - 1], found)

    def _happen(self, first: int, last: int) -> None:
        """All that comes free at these moments, and earlier reservations that start or end."""
        if first >= last:
            return
        since_ms, until_ms, pool = self._times[first], self._times[last - 1], self._trial.pool
        low, high = np.searchsorted(self._matters_ms, (since_ms, until_ms + 1)).tolist()
        for rank in self._ranks[low:high].tolist():
            if not self._choosy:
                pool.vacate((self._releases.places[rank],))
                continue
            uid = self._releases.holders[rank].workload.uid
            if uid in self._trial.running:
                self._trial.evict(uid)
        for held in self._earlier:
            if since_ms <= held.start_ms <= until_ms:
                pool.occupy(held.placement)
            if held.ends_ms is not None and since_ms <= held.ends_ms <= until_ms:
                pool.vacate(held.placement)

    def _place_at(self, moment: int) -> Placement | None:
        """Where it would be put at that moment, which has happened."""
        mark, pool = self._trial.mark(), self._trial.pool
        pool.hide(self._barred(self._times[moment]))
        found = self._trial.place(self._workload, self._bounds)
        self._trial.rollback(mark)
        return None if isinstance(found, Stuck) else found

    def _barred(self, at_ms: int) -> list[int]:
        """Held nodes of those that come later and before it would end. Where it matters who else is on a
        node, all held nodes."""
        return [
            number
            for held in self._earlier
            if self._choosy or (at_ms < held.start_ms and self._overlaps(at_ms, held))
            for number in held.nodes
        ]

    def _overlaps(self, at_ms: int, held: Reservation) -> bool:
        return self._length_ms is None or at_ms + self._length_ms > held.start_ms

    def _reservation(self, start_ms: int, placement: Placement) -> Reservation:
        numbers = (self._trial.pool.number(assignment.node) for assignment in placement)
        nodes = tuple(sorted({number for number in numbers if number is not None}))
        length_ms = run_ms(self._workload, placement)
        ends = None if length_ms is None else start_ms + length_ms
        return Reservation(self._workload.uid, start_ms, nodes, placement, ends)
