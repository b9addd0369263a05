"""Who is considered next."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush, heapreplace

from scheduler.core.model.types import WorkloadView
from scheduler.core.quota.queue_members import Member, stranger
from scheduler.core.quota.quota import QuotaTree
from scheduler.core.quota.standing import NOTHING, Alternatives, Standing, share_after, standing_of

_Place = tuple[float, float, int, str, str, str, int, WorkloadView]
"""Priority, higher first; deadline, earlier first, none last; creation, project, name, uid: the order within
one queue."""

_Turn = tuple[int, float, float, float, _Place, "_Seat"]
"""Of the first workload of a queue or cohort: the height of the cohort that it would borrow from, priority
and deadline; the share that the queue or cohort would have with it; its place, who would send it."""

Needs = Callable[[WorkloadView], Sequence[Alternatives]]
"""What each role of a workload would take, see ``asks.Ask.roles``; for equal needs the same object, as long
as the heads are in use."""


class Heads:
    """The pending workloads, one after the other.

    Each queue sends its first: priority (higher first), SLA deadline (earlier first, none last), age,
    project, name, uid. Among queues, those that keep to their nominal quotas with their first go before
    those that would borrow for it, and who borrows in a lower cohort before who borrows in a higher one; then
    priority and deadline; then the fair share that each would have with it (cohort by cohort the lowest
    first, as of what has been charged to the tree by then); then age.

    The order does not depend on the order of ``pending``. A creation time in the future (clocks differ)
    counts as ``now_ms``. Workloads of queues that the tree does not know have the largest share of all.
    A pop costs the logarithm of the number of queues.
    """

    def __init__(self, pending: Iterable[WorkloadView], tree: QuotaTree, now_ms: int, needs: Needs) -> None:
        self._tree = tree
        queues: dict[str, list[WorkloadView]] = {}
        for workload in pending:
            queues.setdefault(workload.queue, []).append(workload)
        seats = {
            tree.member(name) or stranger(name): _in_order(workloads, now_ms)
            for name, workloads in queues.items()
        }
        self._contest = _Contest(seats, tree, needs)
        self._seen = tree.changes

    def pop(self) -> WorkloadView | None:
        """The next workload to consider; None when all have been."""
        changed = self._tree.changed_since(self._seen)
        self._seen = self._tree.changes
        return self._contest.pop(changed)

    def refresh(self) -> None:
        """Something was taken back: queues may borrow from closer than when they were last looked at."""
        self._contest.refresh()


def _in_order(workloads: list[WorkloadView], now_ms: int) -> list[_Place]:
    """The first of them last, so that it can be popped."""
    return sorted(
        (
            (
                -each.priority,
                math.inf if each.deadline_ms is None else each.deadline_ms,
                min(each.created_ms, now_ms),
                each.project,
                each.name,
                each.uid,
                number,
                each,
            )
            for number, each in enumerate(workloads)
        ),
        reverse=True,
    )


class _Seat:
    """A queue with its workloads (the first last), or a cohort with the turns of its children. ``standing``:
    that of the first workload, as of ``version`` of the tree; ``known``: those of all needs met since the
    queue was charged for the ``charges``-th time, each with the version; ``declared``: the tree knows the
    queue; ``turn``: the one that is right now; others of this seat are dropped when they come up."""

    __slots__ = (
        "charges",
        "declared",
        "known",
        "member",
        "parent",
        "standing",
        "turn",
        "turns",
        "version",
        "waiting",
    )

    def __init__(self, member: Member | None, parent: _Seat | None, waiting: list[_Place] | None) -> None:
        self.member = member
        self.parent = parent
        self.waiting = waiting
        self.declared = True
        self.standing = NOTHING
        self.known: dict[int, tuple[Standing, int]] = {}
        self.charges = -1
        self.version = -1
        self.turns: list[_Turn] = []
        self.turn: _Turn | None = None

    def is_current(self, member: Member) -> bool:
        """Whether the standing still holds: how far one borrows follows from all of the tree, anything else
        from what its queue uses."""
        if self.charges != member.charges:
            return False
        return not self.standing[0] or self.version == member.root.version

    def send(self, turn: _Turn, instead_of: _Turn | None) -> None:
        """The child has this turn now."""
        turn[5].turn = turn
        if self.turns and self.turns[0] is instead_of:
            heapreplace(self.turns, turn)
        else:
            heappush(self.turns, turn)

    def first(self) -> _Turn | None:
        """The child whose turn it is."""
        turns = self.turns
        while turns and turns[0][5].turn is not turns[0]:
            heappop(turns)
        return turns[0] if turns else None


class _Contest:
    """The queues with workloads that wait. Each cohort keeps a heap of its children's turns; a child whose
    share or first workload has changed gets a new turn. From how far a queue would borrow is looked at again
    when its turn has come: by what others are charged meanwhile it only comes later."""

    def __init__(self, queues: dict[Member, list[_Place]], tree: QuotaTree, needs: Needs) -> None:
        self._tree = tree
        self._needs = needs
        self._root = _Seat(None, None, None)
        self._seats: dict[Member, _Seat] = {}
        self._popped: _Seat | None = None
        for member, waiting in queues.items():
            seat = self._seat(member)
            seat.waiting = waiting
            seat.declared = tree.member(member.name) is member
            self._renew(seat)

    def pop(self, changed: Iterable[Member]) -> WorkloadView | None:
        """The next workload, after the shares of ``changed`` queues have changed."""
        popped = self._popped
        if popped is not None:
            self._renew(popped)
        for queue in changed:
            if popped is not None and queue is popped.member:
                continue
            seat = self._nearest(queue)
            if seat is not None and seat is not popped:
                self._renew(seat)
        while (seat := self._foremost()) is not None:
            if seat.member is None or seat.is_current(seat.member):
                break
            turn = seat.turn
            self._renew(seat)
            if seat.turn is turn:
                break
        self._popped = seat
        return seat.waiting.pop()[-1] if seat is not None and seat.waiting else None

    def refresh(self) -> None:
        """Look at all queues anew."""
        for seat in list(self._seats.values()):
            if seat.waiting:
                self._renew(seat)

    def _foremost(self) -> _Seat | None:
        """The queue whose turn it is."""
        turn = self._root.first()
        if turn is None:
            return None
        seat = turn[5]
        while seat.waiting is None and (turn := seat.first()) is not None:
            seat = turn[5]
        return seat

    def _nearest(self, member: Member) -> _Seat | None:
        """The seat of a queue, or of the closest cohort above it that has one."""
        above: Member | None = member
        while above is not None and above not in self._seats:
            above = above.parent
        return None if above is None else self._seats[above]

    def _seat(self, member: Member) -> _Seat:
        seat = self._seats.get(member)
        if seat is None:
            parent = self._root if member.parent is None else self._seat(member.parent)
            seat = self._seats[member] = _Seat(member, parent, None)
        return seat

    def _renew(self, changed: _Seat) -> None:
        """Give the seat and those above it the turns that are now right."""
        member, parent = changed.member, changed.parent
        if member is None or parent is None:
            return
        if changed.waiting is not None:
            turn, place = changed.turn, changed.waiting[-1] if changed.waiting else None
            if place is None:
                changed.turn = None
            else:
                if turn is None or turn[4] is not place or not changed.is_current(member):
                    self._look_at(changed, member, place[-1])
                borrows, _, share = changed.standing
                if turn is None or turn[4] is not place or turn[3] != share or turn[0] != borrows:
                    parent.send((borrows, place[0], place[1], share, place, changed), turn)
            changed = parent
        self._pass_up(changed)

    def _pass_up(self, cohort: _Seat) -> None:
        """The turns of a cohort and those above it follow from its first child's."""
        seat, member, parent = cohort, cohort.member, cohort.parent
        while member is not None and parent is not None:
            first, turn = seat.first(), seat.turn
            if first is None:
                seat.turn = None
            else:
                place, seat.standing = first[4], first[5].standing
                borrows, takes, _ = seat.standing
                share = share_after(self._tree, member, takes)
                if turn is None or turn[4] is not place or turn[3] != share or turn[0] != borrows:
                    parent.send((borrows, place[0], place[1], share, place, seat), turn)
            seat, member, parent = parent, parent.member, parent.parent

    def _look_at(self, seat: _Seat, member: Member, first: WorkloadView) -> None:
        """Set the ``standing`` of the seat to that of its first workload."""
        version, charges = member.root.version, member.charges
        if seat.charges != charges:
            seat.known.clear()
            seat.charges = charges
        if not seat.declared:
            return
        needs = self._needs(first)
        known = seat.known.get(id(needs))
        if known is None or (known[0][0] and known[1] != version):
            known = seat.known[id(needs)] = standing_of(self._tree, member, needs), version
        seat.standing, seat.version = known
