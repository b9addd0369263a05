"""Who is considered next."""

from __future__ import annotations

import math
from collections.abc import Iterable
from heapq import heappop, heappush

from scheduler.core.queue_members import Member, stranger
from scheduler.core.quota import QuotaTree
from scheduler.core.types import WorkloadView

_Rank = tuple[float, float]
"""Priority, higher first, then deadline, earlier first; none is last."""

_Age = tuple[int, str, str, str, int, WorkloadView]
"""Creation, project, name, uid: the order within one queue."""

_Turn = tuple[float, _Age, Member]
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


class _Contest:
    """The queues with workloads of one rank. Each cohort keeps a heap of its children's turns; a child whose
    share or oldest workload has changed gets a new turn, and the old one is dropped when it comes up."""

    def __init__(self, queues: dict[Member, list[_Age]]) -> None:
        self._queues = queues
        self._turns: dict[Member | None, list[_Turn]] = {None: []}
        self._valid: dict[Member, _Turn] = {}
        self._popped: Member | None = None
        for member in queues:
            self._renew(member)

    def pop(self, changed: Iterable[Member]) -> WorkloadView | None:
        """The next workload, after the shares of ``changed`` queues have changed."""
        if self._popped is not None:
            self._renew(self._popped)
        for queue in changed:
            if queue is not self._popped:
                self._renew(queue)
        turn = self._first(None)
        if turn is None:
            return None
        member = turn[2]
        while (below := self._first(member)) is not None:
            member = below[2]
        self._popped = member
        return self._queues[member].pop()[-1]

    def _renew(self, changed: Member) -> None:
        """Give the member and the cohorts above it the turns that are now right."""
        for member in changed.chain:
            oldest = self._oldest(member)
            turn = self._valid.get(member)
            if oldest is None:
                self._valid.pop(member, None)
            elif turn is None or turn[1] is not oldest or turn[0] != member.share:
                turn = self._valid[member] = (member.share, oldest, member)
                heappush(self._turns.setdefault(member.parent, []), turn)

    def _oldest(self, member: Member) -> _Age | None:
        waiting = self._queues.get(member)
        if waiting is None:
            first = self._first(member)
            return None if first is None else first[1]
        return waiting[-1] if waiting else None

    def _first(self, cohort: Member | None) -> _Turn | None:
        turns = self._turns.get(cohort)
        if turns is None:
            return None
        while turns and self._valid.get(turns[0][2]) is not turns[0]:
            heappop(turns)
        return turns[0] if turns else None
