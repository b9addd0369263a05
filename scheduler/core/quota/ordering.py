"""Who is considered next."""

from __future__ import annotations

import math
from collections.abc import Iterable
from heapq import heappop, heappush

from scheduler.core.model.types import WorkloadView
from scheduler.core.quota.queue_members import Member, stranger
from scheduler.core.quota.quota import QuotaTree

_Rank = tuple[float, float]
"""Priority, higher first, then deadline, earlier first; none is last."""

_Age = tuple[int, str, str, str, int, WorkloadView]
"""Creation, project, name, uid: the order within one queue."""

_Turn = tuple[float, _Age, "_Seat"]
"""The share of a queue or cohort, and the oldest workload that it would send."""


class Heads:
    """The pending workloads, one after the other: priority (higher first), SLA deadline (earlier first, none
    last), fair share (cohort by cohort the one with the lowest share, as of what has been charged to the tree
    by then), age, project, name, uid.

    The order does not depend on the order of ``pending``. A creation time in the future (clocks differ)
    counts as ``now_ms``. Workloads of queues that the tree does not know come after the others of their rank.
    A pop costs the logarithm of the number of queues.
    """

    def __init__(self, pending: Iterable[WorkloadView], tree: QuotaTree, now_ms: int) -> None:
        self._tree = tree
        self._now_ms = now_ms
        self._waiting: dict[_Rank, list[WorkloadView]] = {}
        for workload in pending:
            deadline = math.inf if workload.deadline_ms is None else workload.deadline_ms
            self._waiting.setdefault((-workload.priority, deadline), []).append(workload)
        self._ranks = sorted(self._waiting, reverse=True)
        self._contest: _Contest | None = None
        self._seen = 0

    def pop(self) -> WorkloadView | None:
        """The next workload to consider; None when all have been."""
        while True:
            if self._contest is not None:
                changed = self._tree.changed_since(self._seen)
                self._seen = self._tree.changes
                workload = self._contest.pop(changed)
                if workload is not None:
                    return workload
            if not self._ranks:
                return None
            self._contest = self._begin(self._waiting.pop(self._ranks.pop()))
            self._seen = self._tree.changes

    def _begin(self, waiting: list[WorkloadView]) -> _Contest:
        queues: dict[str, list[WorkloadView]] = {}
        for workload in waiting:
            queues.setdefault(workload.queue, []).append(workload)
        return _Contest(
            {
                self._tree.member(name) or stranger(name): _by_age(workloads, self._now_ms)
                for name, workloads in queues.items()
            }
        )


def _by_age(workloads: list[WorkloadView], now_ms: int) -> list[_Age]:
    """The oldest last, so that it can be popped."""
    return sorted(
        (
            (min(each.created_ms, now_ms), each.project, each.name, each.uid, number, each)
            for number, each in enumerate(workloads)
        ),
        reverse=True,
    )


class _Seat:
    """A queue with its workloads (the oldest last), or a cohort with the turns of its children. ``turn`` is
    the one that is right now; others of this seat are dropped when they come up."""

    __slots__ = ("member", "parent", "turn", "turns", "waiting")

    def __init__(self, member: Member | None, parent: _Seat | None, waiting: list[_Age] | None) -> None:
        self.member = member
        self.parent = parent
        self.waiting = waiting
        self.turns: list[_Turn] = []
        self.turn: _Turn | None = None

    def first(self) -> _Turn | None:
        """The child whose turn it is."""
        turns = self.turns
        while turns and turns[0][2].turn is not turns[0]:
            heappop(turns)
        return turns[0] if turns else None


class _Contest:
    """The queues with workloads of one rank. Each cohort keeps a heap of its children's turns; a child whose
    share or oldest workload has changed gets a new turn."""

    def __init__(self, queues: dict[Member, list[_Age]]) -> None:
        self._root = _Seat(None, None, None)
        self._seats: dict[Member, _Seat] = {}
        self._popped: _Seat | None = None
        for member, waiting in queues.items():
            seat = self._seat(member)
            seat.waiting = waiting
            self._renew(seat)

    def pop(self, changed: Iterable[Member]) -> WorkloadView | None:
        """The next workload, after the shares of ``changed`` queues have changed."""
        popped = self._popped
        if popped is not None:
            self._renew(popped)
        for queue in changed:
            seat = self._seats.get(queue)
            if seat is not None and seat is not popped:
                self._renew(seat)
        turn = self._root.first()
        if turn is None:
            return None
        seat = turn[2]
        while seat.waiting is None and (turn := seat.first()) is not None:
            seat = turn[2]
        self._popped = seat
        return seat.waiting.pop()[-1] if seat.waiting else None

    def _seat(self, member: Member) -> _Seat:
        seat = self._seats.get(member)
        if seat is None:
            parent = self._root if member.parent is None else self._seat(member.parent)
            seat = self._seats[member] = _Seat(member, parent, None)
        return seat

    def _renew(self, changed: _Seat) -> None:
        """Give the seat and those above it the turns that are now right."""
        seat: _Seat = changed
        while (parent := seat.parent) is not None and seat.member is not None:
            waiting, turn, share = seat.waiting, seat.turn, seat.member.share
            if waiting is None:
                first = seat.first()
                oldest = None if first is None else first[1]
            else:
                oldest = waiting[-1] if waiting else None
            if oldest is None:
                seat.turn = None
            elif turn is None or turn[1] is not oldest or turn[0] != share:
                seat.turn = (share, oldest, seat)
                heappush(parent.turns, seat.turn)
            seat = parent
