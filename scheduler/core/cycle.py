"""One scheduling cycle, as a story in seven steps. Same snapshot, same decisions; the snapshot is left as it
was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scheduler.core.backfill.delay import should_wait, until_ms
from scheduler.core.backfill.reservation import Reservation, backfill, reserve
from scheduler.core.explain.reasons import (
    Explainer,
    defer_for_first,
    defer_for_fit,
    defer_for_moves,
    defer_for_queue,
    defer_for_reservation,
    defer_for_victims,
)
from scheduler.core.model.types import (
    Admit,
    Decision,
    Defer,
    Placement,
    Policy,
    WorkloadView,
)
from scheduler.core.placement.placing import Bounds, Stuck
from scheduler.core.placement.snapshot import Snapshot
from scheduler.core.placement.trial import Mark, Trial
from scheduler.core.preemption.nominations import Seating, stretch
from scheduler.core.preemption.preemption import find_leftover, find_room
from scheduler.core.quota.ordering import Heads
from scheduler.core.quota.quota import QuotaRefusal
from scheduler.core.reshape.elastic import grow, is_elastic, within_quota
from scheduler.core.reshape.migration import consolidate, plan_moves
from scheduler.core.reshape.starters import Starters
from scheduler.core.tide.tides import defer_for_tide, ebb, within_tide

FOR_ONE = ("Preempting", "Migrating", "WaitsForFit")
"""True of the workload that is told so (room is made for it, its delay ends), and not of others like
it."""
MOVED_FOR = 8
"""For so many blocked workloads a cycle looks whether moving others would make room."""

EquivalenceClass = tuple[str, int, int, object]
"""What decides how a workload fares: those that are equal in it fare alike while nothing comes free."""


def run_cycle(snapshot: Snapshot, policy: Policy, now_ms: int, *, keep: bool = False) -> list[Decision]:
    """Decide about every waiting workload, in the order in which they were considered, and about those that
    run where that helps. ``keep``: what is admitted stays on the snapshot's pool and books, for who goes on
    from there; all else is as it was.

    A workload that does not fit does not hold up those behind it, except that room is held for the first
    ``policy.reserve`` of them from when it will be there.
    """
    if not snapshot.pending and not policy.tides and not snapshot.flexible:
        return []
    snapshot.pool.use(policy, snapshot.workload_mix)
    cycle = _Cycle(snapshot, policy, now_ms)
    mark = cycle.trial.mark()
    try:
        decisions = cycle.run()
    except BaseException:
        cycle.trial.rollback(mark)
        raise
    cycle.end(mark, keep)
    return decisions


@dataclass
class _Cycle:
    snapshot: Snapshot
    policy: Policy
    now_ms: int
    decisions: list[Decision] = field(default_factory=list)
    reservations: tuple[Reservation, ...] = ()
    blocked: int = 0
    waiting: int = 0
    claims: int = 0
    seats: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.trial = Trial(self.snapshot, self.policy, self.now_ms)
        self.explainer = Explainer(self.trial.pool)
        self.starters = Starters(self.trial)
        self.failed: dict[EquivalenceClass, Defer] = {}
        self.closed: set[str] = set()
        self.pending = {workload.uid: workload for workload in self.snapshot.pending}

    def run(self) -> list[Decision]:
        # 1. The tide: training gives back what inference needs at this hour.
        self.decisions += ebb(self.trial)
        # 2. Places that were cleared for a workload are its own, whoever else waits.
        others = self._keep_nominations()
        # 3. Heads: everything else that waits, who keeps to its quota first; who is served moves its queue
        # back.
        self.heads = Heads(others, self.trial.tree, self.now_ms, self.trial.asks.roles)
        while (workload := self.heads.pop()) is not None:
            # 4. to 6. One after the other, see ``_serve``.
            self._decide(workload)
        self.decisions = self.starters.as_they_are(self.decisions)
        # 7. What is left goes to those that can grow; scattered nodes are put together.
        if self.snapshot.flexible:
            self.decisions += grow(self.trial, pending_blocked=self.blocked > 0)
            if self.policy.defragment:
                self.decisions += consolidate(self.trial)
        return self.decisions

    def end(self, mark: Mark, keep: bool) -> None:
        """Leave the snapshot as it was, but for what was admitted where that is to stay."""
        if not keep:
            self.trial.rollback(mark)
            return
        admitted = [
            (self.pending[each.uid], each.placement) for each in self.decisions if isinstance(each, Admit)
        ]
        self.trial.keep(mark, admitted)

    def _keep_nominations(self) -> Sequence[WorkloadView]:
        """Those that others left places for start there, or go on waiting for them. Returns all others that
        wait, with those whose places are lost."""
        pending = self.snapshot.pending
        nominees = [workload for workload in pending if workload.nominated]
        if not nominees:
            return pending
        seating, seated, lost = Seating(self.trial), dict[str, int](), list[WorkloadView]()
        for workload in sorted(nominees, key=lambda one: (-one.priority, one.created_ms, one.uid)):
            waits_for = seating.seat(workload)
            if waits_for is None:
                lost.append(workload)
            else:
                seated[workload.uid] = waits_for
        kept = seated.keys() | {workload.uid for workload in lost if self._reseat(workload)}
        for uid, waits_for in seated.items():
            workload = self.pending[uid]
            if waits_for:
                self._keep_seat(workload, workload.nominated, waits_for)
            else:
                self.decisions.append(Admit(uid, stretch(self.trial, workload)))
        return [workload for workload in pending if workload.uid not in kept]

    def _keep_seat(self, workload: WorkloadView, places: Placement, waits_for: int) -> None:
        answer = defer_for_victims(workload, waits_for)
        self._defer(workload.uid, answer._replace(nominated=places), None)
        self.seats[workload.uid] = len(self.decisions) - 1, self.waiting
        self._close(workload.queue)

    def _reseat(self, workload: WorkloadView) -> bool:
        """Some of its places are lost: what is left of them, or comes free elsewhere, is for it before all
        others. Else those who made way for it would have done so for nothing."""
        plan = find_leftover(self.trial, workload)
        if plan is None:
            return False
        if plan.ready:
            self.decisions.append(Admit(workload.uid, plan.placement))
        else:
            self._keep_seat(workload, plan.placement, 0)
        return True

    def _defer(self, uid: str, answer: Defer, reserved_ms: int | None) -> None:
        self.waiting += 1
        reasons, remedy, never, nominated = answer.reasons, answer.remedy, answer.never, answer.nominated
        self.decisions.append(Defer(uid, reasons, remedy, never, self.waiting, reserved_ms, nominated))

    def _decide(self, workload: WorkloadView) -> None:
        if workload.queue in self.closed:
            self._defer(workload.uid, defer_for_first(workload), None)
            return
        held = self.reservations
        known = self.failed.get(self._equivalence_class(workload, held)) if self.failed else None
        answer = self._like(workload, known) if known else self._serve(workload)
        if isinstance(answer, Admit):
            self.decisions.append(answer)
            return
        self._defer(workload.uid, answer, None if answer is known else answer.reserved_ms)
        if not answer.never:
            self._close(workload.queue)
        if not known and answer.reasons[0].code not in FOR_ONE:
            self.failed[self._equivalence_class(workload, held)] = answer

    def _close(self, queue: str) -> None:
        """One of the queue waits: where it is strict, all behind it wait, too."""
        if self.trial.tree.rules(queue).queueing == "strict":
            self.closed.add(queue)

    def _serve(self, workload: WorkloadView) -> Admit | Defer:
        # 4. Quota and tide: which models, and how many ranks, it may have.
        bounds = self.trial.bounds_for(workload)
        if isinstance(bounds, QuotaRefusal):
            answer = defer_for_queue(workload, bounds)
            return answer if bounds.never else self._make_room(workload, bounds) or answer
        fitted = within_tide(self.trial, workload) if self.policy.tides else workload
        if fitted is None:
            return defer_for_tide(self.trial, workload)
        # 5. Filter, score and place: on nodes with room, or on held ones that it leaves in time.
        mark, max_delay_seconds = self.trial.mark(), self.policy.max_delay_seconds
        found = self.trial.place(fitted, bounds)
        if isinstance(found, Stuck):
            again = backfill(self.trial, fitted, bounds, self.reservations)
            if again is None:
                # 6. Else make room, hold it, or say why it waits.
                return self._wait(fitted, found, bounds)
            found = again
        elif max_delay_seconds and should_wait(
            self.trial, self.snapshot.workload_mix, fitted, found, max_delay_seconds
        ):
            self.trial.rollback(mark)
            return defer_for_fit(workload, until_ms(workload, max_delay_seconds))
        found = within_quota(self.trial, workload, found)
        # Of each model that serves only some of its roles there is room for these; all together may be more.
        refusal = self.trial.refusal(workload, found) if len(workload.roles) > 1 else None
        if refusal is not None:
            self.trial.rollback(mark)
            answer = defer_for_queue(workload, refusal)
            return self._make_room(workload, refusal) or answer
        return self._start(workload, found)

    def _start(self, workload: WorkloadView, placement: Placement) -> Admit:
        """It gets these places, and more of what equals have where no room is held yet: that counts on who
        starts as they are."""
        self.trial.admit(workload, placement)
        if not self.reservations:
            self.starters.came(workload)
        return Admit(workload.uid, placement)

    def _like(self, workload: WorkloadView, known: Defer) -> Defer:
        """The answer to one that is equal to a workload which waits. Room is held for it too, else those
        behind it could be promised what it takes first."""
        if known.reserved_ms is None or self.blocked >= self.policy.reserve:
            return known
        bounds = self.trial.bounds_for(workload)
        if isinstance(bounds, QuotaRefusal):
            return known
        self.blocked += 1
        return self._hold_room(workload, bounds, known._replace(reserved_ms=None))

    def _wait(self, workload: WorkloadView, stuck: Stuck, bounds: Bounds) -> Admit | Defer:
        """Make room by taking from others, by moving others, or hold what comes free."""
        answer = self.explainer.defer(workload, stuck, bounds)
        if answer.never:
            return answer
        made = self._make_room(workload, bounds)
        if made is not None:
            return made
        self.blocked += 1
        if self.policy.defragment and self.snapshot.flexible and self.blocked <= MOVED_FOR:
            moves = plan_moves(self.trial, workload, bounds)
            if moves:
                self.decisions += moves
                self._look_again()
                nominated = self.trial.running[workload.uid].placement
                return defer_for_moves(workload, len(moves))._replace(nominated=nominated)
        answer = self._held(workload, bounds) or answer
        return answer if self.blocked > self.policy.reserve else self._hold_room(workload, bounds, answer)

    def _hold_room(self, workload: WorkloadView, bounds: Bounds, answer: Defer) -> Defer:
        """The answer with the time from which room is held for it, where that is foreseeable."""
        reservation = reserve(self.trial, workload, bounds, self.reservations)
        if reservation is None:
            return answer
        self.reservations += (reservation,)
        self.trial.pool.hide(reservation.nodes)
        return answer._replace(reserved_ms=reservation.start_ms)

    def _make_room(self, workload: WorkloadView, bounds: Bounds | QuotaRefusal) -> Admit | Defer | None:
        given = None if self.reservations else self.starters.make_way(workload)
        if given is not None:
            return self._start(workload, given)
        if not self.policy.preempt or self.claims >= self.policy.claims:
            return None
        plan = find_room(self.trial, workload, bounds)
        if plan is None:
            return None
        if plan.ready:
            return Admit(workload.uid, plan.placement)
        self._unseat(plan.unseated, workload)
        self.claims += bool(plan.resizes or plan.victims)
        self.decisions += plan.resizes
        self.decisions += plan.victims
        self._look_again()
        answer = defer_for_victims(workload, len(plan.victims) + len(plan.resizes))
        cleared = plan.victims or plan.resizes or plan.unseated
        return answer._replace(nominated=plan.placement) if cleared else answer

    def _unseat(self, uids: Sequence[str], winner: WorkloadView) -> None:
        """The places that were cleared for them go to a more important one."""
        for uid in uids:
            number, position = self.seats.pop(uid)
            lost = defer_for_reservation(self.pending[uid], winner.queue)
            self.decisions[number] = lost._replace(position=position, outbid_by=winner.uid)

    def _look_again(self) -> None:
        """Something has come free: others may fare better than those like them did."""
        self.failed.clear()
        self.heads.refresh()

    def _held(self, workload: WorkloadView, bounds: Bounds) -> Defer | None:
        """Whether it waits only because room is held for others, and for whom."""
        nodes = tuple(sorted({number for held in self.reservations for number in held.nodes}))
        if not nodes:
            return None
        mark = self.trial.mark()
        found = self.trial.place(workload, Bounds(bounds.models, nodes))
        self.trial.rollback(mark)
        if isinstance(found, Stuck):
            return None
        used = {self.trial.pool.number(rank.node) for rank in found}
        holder = next((held.uid for held in self.reservations if used.intersection(held.nodes)), None)
        return None if holder is None else defer_for_reservation(workload, self.pending[holder].queue)

    def _equivalence_class(
        self, workload: WorkloadView, reservations: Sequence[Reservation]
    ) -> EquivalenceClass:
        """How long it runs matters for which of the nodes held by ``reservations`` it may use until then, and
        for nothing else."""
        seconds = workload.expected_seconds
        time: object = seconds
        if seconds is not None and not is_elastic(workload):
            ends_ms = self.now_ms + seconds * 1000
            time = tuple(ends_ms <= held.start_ms for held in reservations)
        elif not reservations:
            time = ()
        return workload.queue, workload.priority, self.trial.asks.of(workload).number, time
