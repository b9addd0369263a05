"""When those that wait will start: the scheduler's own cycle, run forward over the expected ends of what
runs."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from scheduler.core.backfill.releases import Followed, Releases
from scheduler.core.cycle import run_cycle
from scheduler.core.model.runtimes import run_ms
from scheduler.core.model.types import (
    Admit,
    Decision,
    Defer,
    Migrate,
    Placement,
    Policy,
    Preempt,
    QueueView,
    Resize,
    RunningView,
    WorkloadView,
)
from scheduler.core.placement.asks import Asks
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.snapshot import Snapshot
from scheduler.core.placement.trial import keep_books
from scheduler.core.pool.layout import ModelKey
from scheduler.core.pool.pool import Pool
from scheduler.core.quota.ordering import Heads
from scheduler.core.quota.quota import QuotaTree

HORIZON_MS = 30 * 86_400_000
"""So far is looked ahead."""

WORK = 1_000_000
"""Workloads looked at in all cycles together, where nobody asks for less; it limits how many cycles there
are."""

FEWEST_CYCLES, MOST_CYCLES = 16, 2000
SETTLE_MS = 1000
"""After somebody was moved or resized, the next cycle comes so soon."""


@dataclass(frozen=True)
class Forecast:
    """Expected starts by uid. ``guessed``: those that come after an end that was predicted, not stated."""

    starts: dict[str, int] = field(default_factory=dict)
    guessed: set[str] = field(default_factory=set)


def forecast_starts(
    snapshot: Snapshot, policy: Policy, now_ms: int, limit: int = 1000, work: int | None = None
) -> dict[str, int]:
    """``forecast`` by stated run times alone."""
    return forecast(snapshot, policy, now_ms, limit, work).starts


def forecast(
    snapshot: Snapshot,
    policy: Policy,
    now_ms: int,
    limit: int = 1000,
    work: int | None = None,
    predicted_seconds: Mapping[str, int] | None = None,
) -> Forecast:
    """The expected start of those of the first ``limit`` pending workloads for which it is known.

    What is admitted runs for its ``expected_seconds``, else for its ``predicted_seconds`` (by uid); what has
    neither never ends. Cycles are not told of predicted ends, now or ahead: they hold and lend room by stated
    ones alone. What runs longer than expected is expected to take twice as long, and twice again. The first
    half of the cycles (their number depends on how much there is to look at) is one for each end; later ones
    are so far apart that the rest of the horizon is covered. The snapshot is left as it was.
    """
    if not snapshot.pending:
        return Forecast()
    mark = snapshot.pool.mark()
    try:
        most = WORK if work is None else work
        return _Future(snapshot, policy, now_ms, limit, most, predicted_seconds or {}).play()
    finally:
        snapshot.pool.rollback(mark)


class _Future:
    """What runs and waits at the time ``_time_ms``."""

    def __init__(
        self,
        snapshot: Snapshot,
        policy: Policy,
        now_ms: int,
        limit: int,
        work: int,
        predicted_seconds: Mapping[str, int],
    ) -> None:
        self._snapshot, self._policy = snapshot, policy
        self._pool = snapshot.pool
        self._now_ms = self._time_ms = now_ms
        self._queues = snapshot.queues
        self._books = keep_books(snapshot.queues, self._pool, snapshot.running)
        first = _first(snapshot.pending, self._books, self._pool, now_ms, limit)
        self._waiting = {workload.uid: workload for workload in first}
        self._asked = set(self._waiting)
        self._forecast = Forecast()
        self._running: dict[str, RunningView] = {}
        self._predicted_seconds = dict(predicted_seconds)
        self._unstated: set[str] = set()
        self._guessing = False
        self._releases: Releases | None = None
        self._gone: set[str] = set()
        self._came: dict[str, RunningView] = {}
        self._end_of: dict[str, int] = {}
        self._ends: list[tuple[int, str]] = []
        self._preempted: set[str] = set()
        self._settle_ms: int | None = None
        for running in snapshot.running:
            self._begin(running)
        each = len(snapshot.running) + len(self._waiting)
        self._cycles = min(MOST_CYCLES, max(FEWEST_CYCLES, work // each))

    def play(self) -> Forecast:
        for left in range(self._cycles, 0, -1):
            self._release()
            self._carry_out(run_cycle(self._view(), self._policy, self._time_ms))
            next_ms = self._next_ms()
            if next_ms is None or not self._asked & self._waiting.keys():
                break
            passed_ms = self._time_ms - self._now_ms
            if passed_ms and 2 * left < self._cycles:
                wider = (HORIZON_MS / passed_ms) ** (1 / left)
                next_ms = max(next_ms, self._now_ms + int(passed_ms * wider))
            if next_ms > self._now_ms + HORIZON_MS:
                break
            self._time_ms = next_ms
        return self._forecast

    def _view(self) -> Snapshot:
        waiting, running = tuple(self._waiting.values()), self._running.values()
        return replace(
            self._snapshot,
            queues=self._queues,
            pending=waiting,
            running=Followed.by(self._known_releases, running),
            books=self._books,
            summary=None,
        )

    def _known_releases(self) -> Releases:
        """Of what runs; what changed since they were last asked for is told to them then."""
        if self._releases is None:
            self._releases = Releases(self._running.values(), self._pool, self._time_ms)
        elif self._gone or self._came:
            came = self._came.values()
            self._releases = self._releases.follow(self._gone, came, self._pool, self._time_ms)
        self._gone, self._came = set(), {}
        return self._releases

    # -- time

    def _next_ms(self) -> int | None:
        """When something changes next; None = never."""
        while self._ends and not self._is_end(*self._ends[0]):
            heapq.heappop(self._ends)
        times = [self._ends[0][0]] if self._ends else []
        times += [b.renews_ms for q in self._queues for b in q.budgets if b.renews_ms > self._time_ms]
        times += [self._settle_ms] if self._settle_ms is not None else []
        return min(times, default=None)

    def _is_end(self, at_ms: int, uid: str) -> bool:
        return self._end_of.get(uid) == at_ms

    def _release(self) -> None:
        """What ends by now gives its places back; who was preempted waits again; budgets are renewed."""
        self._settle_ms = None
        freed: dict[tuple[str, ModelKey], int] = {}
        while self._ends and self._ends[0][0] <= self._time_ms:
            at_ms, uid = heapq.heappop(self._ends)
            if self._is_end(at_ms, uid):
                gone = self._leave(uid)
                self._guessing |= uid in self._unstated
                self._pool.vacate(gone.placement)
                for model, millis in millis_by_model(gone.placement).items():
                    key = gone.workload.queue, model
                    freed[key] = freed.get(key, 0) + millis
                if uid in self._preempted:
                    self._preempted.remove(uid)
                    self._waiting[uid] = gone.workload
        for (queue, model), millis in freed.items():
            self._books.refund(queue, model, millis)
        queues = tuple(_renewed(queue, self._time_ms) for queue in self._queues)
        if queues != self._queues:
            self._queues = queues
            self._books = keep_books(queues, self._pool, self._running.values())

    # -- decisions

    def _carry_out(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Admit):
                self._admit(decision)
            elif isinstance(decision, Preempt):
                self._preempt(decision.uid)
            elif isinstance(decision, Resize | Migrate):
                self._change(decision)
            elif isinstance(decision, Defer):
                self._wait(decision)

    def _wait(self, decision: Defer) -> None:
        """It waits for the places that were cleared for it, or like all others, or in vain."""
        workload = self._waiting.pop(decision.uid) if decision.never else self._waiting[decision.uid]
        if not decision.never and workload.nominated != decision.nominated:
            self._waiting[decision.uid] = replace(workload, nominated=decision.nominated)

    def _admit(self, decision: Admit) -> None:
        workload = self._waiting.pop(decision.uid)
        if workload.nominated:
            workload = replace(workload, nominated=())
        if decision.uid in self._asked and decision.uid not in self._forecast.starts:
            self._forecast.starts[decision.uid] = self._time_ms
            if self._guessing:
                self._forecast.guessed.add(decision.uid)
        self._pool.occupy(decision.placement)
        self._charge(workload, decision.placement, 1)
        self._begin(RunningView(workload, decision.placement, self._time_ms))

    def _preempt(self, uid: str) -> None:
        """It saves what it did and goes on with the rest when it is its turn again."""
        running = self._running[uid]
        if running.leaving:
            return
        workload = running.workload
        if uid in self._end_of:
            left = max(1, (self._end_of[uid] - self._time_ms) // 1000)
            if uid in self._unstated:
                self._predicted_seconds[uid] = left
            else:
                workload = replace(workload, expected_seconds=left)
        ends_ms = self._time_ms + workload.grace_seconds * 1000
        self._preempted.add(uid)
        self._unstated.discard(uid)
        self._run(replace(running, workload=workload, leaving=True, ends_ms=ends_ms), ends_ms)

    def _change(self, decision: Resize | Migrate) -> None:
        """It goes on with other ranks, the faster the more it has."""
        running, placement = self._running[decision.uid], decision.placement
        before, after = self._length_ms(running), self._length_ms(replace(running, placement=placement))
        changed, ends_ms = replace(running, placement=placement), self._end_of.get(decision.uid)
        if ends_ms is not None and before and after:
            ends_ms = self._time_ms + (ends_ms - self._time_ms) * after // before
        if decision.uid not in self._unstated:
            changed = replace(changed, ends_ms=ends_ms)
        if isinstance(decision, Resize):
            changed = replace(changed, resized_ms=self._time_ms)
        self._pool.vacate(running.placement)
        self._pool.occupy(placement)
        self._charge(running.workload, running.placement, -1)
        self._charge(running.workload, placement, 1)
        self._run(changed, ends_ms)
        self._settle_ms = self._time_ms + SETTLE_MS

    def _begin(self, running: RunningView) -> None:
        """It runs until its stated end, which cycles see, or its predicted one; where that is past, its run
        time is doubled until it is not."""
        length_ms = self._length_ms(running)
        if running.ends_ms is not None:
            length_ms = running.ends_ms - running.started_ms
        if running.leaving or length_ms is None:
            self._run(running, running.ends_ms)
            return
        stated = running.ends_ms is not None or running.workload.expected_seconds is not None
        length_ms, late = max(1, length_ms), False
        while running.started_ms + length_ms < self._time_ms:
            length_ms, late = length_ms * 2, True
        ends_ms = running.started_ms + length_ms
        if not stated:
            self._unstated.add(running.workload.uid)
        self._run(replace(running, ends_ms=ends_ms) if stated and late else running, ends_ms)

    def _length_ms(self, running: RunningView) -> int | None:
        predicted_seconds = self._predicted_seconds.get(running.workload.uid)
        return run_ms(running.workload, running.placement, predicted_seconds)

    def _run(self, running: RunningView, ends_ms: int | None) -> None:
        uid = running.workload.uid
        self._running[uid] = self._came[uid] = running
        self._gone.add(uid)
        if ends_ms is not None:
            self._end_of[uid] = ends_ms
            heapq.heappush(self._ends, (ends_ms, uid))

    def _leave(self, uid: str) -> RunningView:
        self._gone.add(uid)
        self._came.pop(uid, None)
        del self._end_of[uid]
        return self._running.pop(uid)

    def _charge(self, workload: WorkloadView, placement: Placement, sign: int) -> None:
        book = self._books.charge if sign > 0 else self._books.refund
        for model, millis in millis_by_model(placement).items():
            book(workload.queue, model, millis)


def _first(
    pending: tuple[WorkloadView, ...], books: QuotaTree, pool: Pool, now_ms: int, limit: int
) -> Iterable[WorkloadView]:
    """Those that are considered first."""
    if len(pending) <= limit:
        return pending
    asks = Asks(pool)
    heads = Heads(pending, books, now_ms, lambda workload: asks.of(workload).roles)
    return [workload for workload in (heads.pop() for _ in range(limit)) if workload is not None]


def _renewed(queue: QueueView, now_ms: int) -> QueueView:
    """Budgets whose period is over are unspent."""
    if all(budget.renews_ms > now_ms or not budget.spent_device_seconds for budget in queue.budgets):
        return queue
    budgets = (replace(b, spent_device_seconds=0) if b.renews_ms <= now_ms else b for b in queue.budgets)
    return replace(queue, budgets=tuple(budgets))
