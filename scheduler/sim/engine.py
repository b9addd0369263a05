"""The simulation: events in the order of time, a cycle of the real scheduler after them, its decisions
carried out.

One pool is kept through all cycles and is told what changes, as a control process would do it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from common.errors import InvalidInput
from scheduler.core.model.catalogue import Catalogue
from scheduler.core.model.types import (
    Admit,
    Assignment,
    Decision,
    Defer,
    Migrate,
    NodeView,
    Placement,
    Policy,
    Preempt,
    QueueView,
    Resize,
    Tide,
)
from scheduler.core.placement.snapshot import Snapshot
from scheduler.core.pool.pool import Pool
from scheduler.sim.books import DeviceTimeBooks
from scheduler.sim.eta import Forecasts
from scheduler.sim.invariants import Invariants
from scheduler.sim.jobs import SECOND_MS, Actor, Job, JobOutcome, NodeChange, RunState, TideChange, Turn
from scheduler.sim.options import Decide, Hooks, Options
from scheduler.sim.result import SimResult, Totals
from scheduler.sim.runs import Run
from scheduler.sim.useless import Useless


def simulate(
    nodes: Sequence[NodeView],
    queues: Sequence[QueueView],
    jobs: Iterable[Job],
    policy: Policy,
    options: Options,
    decide: Decide,
    *,
    actors: Sequence[Actor] = (),
    changes: Iterable[NodeChange | TideChange] = (),
    catalogue: Catalogue | None = None,
    hooks: Hooks | None = None,
) -> SimResult:
    """Play all of it; same input, same result. ``decide`` is ``run_cycle``.

    ``InvalidInput`` where two jobs have one uid; ``InvariantBroken`` where a cycle decides what must not be.
    """
    simulation = Simulation(nodes, queues, policy, options, decide, catalogue, hooks or Hooks())
    return simulation.play(list(jobs), actors, changes)


class Simulation:
    """One run. Times are milliseconds."""

    def __init__(
        self,
        nodes: Sequence[NodeView],
        queues: Sequence[QueueView],
        policy: Policy,
        options: Options,
        decide: Decide,
        catalogue: Catalogue | None,
        hooks: Hooks,
    ) -> None:
        self._nodes, self._queues, self._policy, self._options = nodes, queues, policy, options
        self._decide, self._hooks = decide, hooks
        self._pool = Pool(nodes, catalogue or Catalogue(()))
        slack = options.batch_seconds + options.heartbeat_seconds
        self._invariants = Invariants(nodes, queues, slack)
        self._useless = Useless()
        self._forecasts = Forecasts(options.eta_seconds * SECOND_MS)
        self._events: list[tuple[int, bool, int, Callable[[], None]]] = []
        self._count = 0
        self._cycle_ms: int | None = None
        self._last_cycle_ms = -1
        self._decided: dict[str, int] = {}
        self._pending: dict[str, Run] = {}
        self._running: dict[str, Run] = {}
        self._outcomes: dict[str, JobOutcome] = {}
        self._left = 0
        self._totals: list[Totals] = []

    # -- the loop

    def play(
        self, jobs: Sequence[Job], actors: Sequence[Actor], changes: Iterable[NodeChange | TideChange]
    ) -> SimResult:
        start, end = self._begin(jobs, actors, changes)
        last = end + self._options.drain_seconds * SECOND_MS
        while self._events:
            at_ms = self._events[0][0]
            if at_ms > last or (at_ms > end and not self._left):
                break
            self._now = at_ms
            self._books.advance(at_ms)
            while self._events and self._events[0][0] == at_ms:
                heapq.heappop(self._events)[3]()
        return self._result(start, end)

    def _begin(
        self, jobs: Sequence[Job], actors: Sequence[Actor], changes: Iterable[NodeChange | TideChange]
    ) -> tuple[int, int]:
        if len({job.workload.uid for job in jobs}) != len(jobs):
            raise InvalidInput("two jobs have the same uid", param="jobs")
        firsts = [job.workload.created_ms for job in jobs]
        start = self._options.start_ms
        start = min(firsts, default=0) if start is None else start
        self._now = start
        measured = start + self._options.warmup_seconds * SECOND_MS
        end = measured + self._options.horizon_seconds * SECOND_MS
        self._books = DeviceTimeBooks(self._nodes, self._queues, start, (measured, end), self._options.spans)
        self._at(measured, self._measure)
        self._at(end, self._measure)
        self._left = sum(job.seconds is not None for job in jobs)
        for job in jobs:
            self._at(max(start, job.workload.created_ms), partial(self._submit, job))
        for actor in actors:
            self._at(max(start, actor.first_ms()), partial(self._act, actor))
        for change in changes:
            act = self._change_node if isinstance(change, NodeChange) else self._change_tide
            self._at(max(start, change.at_ms), partial(act, change))  # type: ignore[arg-type]
        return measured, end

    def _at(self, at_ms: int, act: Callable[[], None], last: bool = False) -> None:
        """``last``: after all else of that time."""
        self._count += 1
        heapq.heappush(self._events, (at_ms, last, self._count, act))

    # -- events

    def _submit(self, job: Job) -> None:
        if job.workload.uid in self._outcomes:
            raise InvalidInput(f"{job.workload.uid} was submitted before", param="jobs")
        run = Run(job, self._now)
        self._outcomes[job.workload.uid] = run.outcome
        self._pending[job.workload.uid] = run
        self._wake()

    def _finish(self, uid: str, version: int) -> None:
        run = self._running.get(uid)
        if run is not None and run.version == version:
            self._end(run)

    def _end(self, run: Run) -> None:
        """The job is through, or was ended."""
        uid = run.workload.uid
        self._useless.withdraw(uid)
        if self._pending.pop(uid, None) is None:
            del self._running[uid]
            self._take_off(run, run.placement)
        run.finish(self._now)
        self._left -= run.job.seconds is not None
        self._wake()

    def _release(self, uid: str, version: int) -> None:
        run = self._running.get(uid)
        if run is not None and run.version == version:
            self._stop(run)

    def _stop(self, run: Run) -> None:
        """Its places are gone and it waits again."""
        uid = run.workload.uid
        del self._running[uid]
        self._take_off(run, run.placement)
        run.stop(self._now)
        self._pending[uid] = run
        self._invariants.forget()
        self._wake()

    def _act(self, actor: Actor) -> None:
        turn: Turn = actor.act(self._now, self._state)
        for uid in turn.end:
            run = self._pending.get(uid) or self._running.get(uid)
            if run is not None:
                self._end(run)
        for job in turn.submit:
            self._left += job.seconds is not None
            self._submit(job)
        if turn.tides is not None:
            self._set_tides(turn.tides)
        if turn.again_ms is not None:
            self._at(max(self._now + 1, turn.again_ms), partial(self._act, actor))

    def _state(self, uid: str) -> RunState | None:
        run = self._running.get(uid)
        return run.state() if run else None

    def _change_tide(self, change: TideChange) -> None:
        self._set_tides(change.tides)

    def _set_tides(self, tides: tuple[Tide, ...]) -> None:
        if tides != self._policy.tides:
            self._policy = replace(self._policy, tides=tides)
            self._useless.shake(lambda *_: True)
            self._invariants.forget()
            self._wake()

    def _change_node(self, change: NodeChange) -> None:
        node = change.node
        healthy = {device.id for device in node.devices if device.healthy}
        hit = [run for run in self._running.values() if _stands_on(run.placement, node, healthy)]
        for run in hit:
            run.outcome.failures += 1
            self._stop(run)
        self._useless.shake(lambda _, places: any(rank.node == node.name for rank in places))
        self._pool.set_node(node)
        self._pool.commit()
        self._invariants.nodes[node.name] = node
        self._invariants.forget()
        self._wake()

    def _measure(self) -> None:
        """The time that figures are about begins or is over."""
        for run in self._running.values():
            run.settle(self._now)
        self._totals.append(Totals.of(self._outcomes.values()))

    # -- a cycle

    def _wake(self) -> None:
        """Something changed: a cycle is due as soon as cycles may be."""
        batch = self._options.batch_seconds * SECOND_MS
        due = self._now if not batch else -(-self._now // batch) * batch
        if due == self._last_cycle_ms:
            due += batch
        self._plan_cycle(due)

    def _plan_cycle(self, due: int) -> None:
        if self._cycle_ms is None or due < self._cycle_ms:
            self._cycle_ms = due
            self._at(due, partial(self._cycle, due), last=True)

    def _cycle(self, due: int) -> None:
        if self._cycle_ms != due:
            return
        self._cycle_ms, self._last_cycle_ms = None, due
        invariants = self._invariants
        invariants.cycle += 1
        decisions = self._decide(self._snapshot(), self._policy, self._now)
        for decision in decisions:
            self._apply(decision)
        self._useless.follow(decisions)
        self._pool.commit()
        if invariants.cycle % self._options.audit_every == 0:
            self._audit()
        if self._options.promises:
            invariants.promises(d for d in decisions if isinstance(d, Defer))
            invariants.overdue(self._now)
        self._books.waiting((run.workload, run.job.devices) for run in self._pending.values())
        if self._hooks.forecast and self._forecasts.due(self._now):
            self._forecasts.ask(self._hooks.forecast, self._snapshot(), self._policy, self._now)
        if self._hooks.watch:
            self._hooks.watch(self._now, decisions)
        if self._pending:
            moved = any(isinstance(decision, Resize | Migrate) for decision in decisions)
            options = self._options
            pause = max(1, options.batch_seconds) if moved else options.heartbeat_seconds
            self._plan_cycle(self._now + pause * SECOND_MS)

    def _snapshot(self) -> Snapshot:
        pending = tuple(run.workload for run in self._pending.values())
        running = tuple(run.view for run in self._running.values() if run.view)
        return Snapshot(self._pool, self._books.views(self._now), pending, running)

    def _audit(self) -> None:
        self._invariants.devices(run.placement for run in self._running.values())
        self._invariants.quotas(run.view for run in self._running.values() if run.view)

    # -- decisions

    def _apply(self, decision: Decision) -> None:
        name = type(decision).__name__.lower()
        self._decided[name] = self._decided.get(name, 0) + 1
        if isinstance(decision, Admit):
            self._admit(decision)
        elif isinstance(decision, Preempt):
            run = self._known(decision.uid)
            if not run.leaving:
                self._at(run.leave(self._now), partial(self._release, decision.uid, run.version))
        elif isinstance(decision, Resize | Migrate):
            self._change_places(decision)
        else:
            self._waits(decision)

    def _admit(self, decision: Admit) -> None:
        uid = decision.uid
        run = self._pending.pop(uid, None)
        if run is None:
            raise self._invariants.broken("NotWaiting", f"{uid} was admitted and does not wait")
        self._invariants.placed(decision.placement)
        self._invariants.whole(run.workload, decision.placement)
        if self._options.promises:
            self._invariants.kept(uid, self._now)
        if run.outcome.first_start_ms is None:
            self._forecasts.started(uid, self._now)
        run.start(decision.placement, self._now)
        self._running[uid] = run
        self._put_on(run, decision.placement)
        self._plan_end(run)

    def _change_places(self, decision: Resize | Migrate) -> None:
        run = self._known(decision.uid)
        self._invariants.placed(decision.placement, run.placement)
        self._invariants.whole(run.workload, decision.placement)
        self._take_off(run, run.placement)
        if isinstance(decision, Resize):
            run.resize(decision.placement, self._now)
        else:
            run.move(decision.placement, self._now)
        self._put_on(run, decision.placement)
        self._plan_end(run)

    def _waits(self, decision: Defer) -> None:
        outcome, run = self._outcomes.get(decision.uid), self._pending.get(decision.uid)
        if outcome is not None and decision.reasons:
            outcome.reason = decision.reasons[0].code
        if run is not None and run.workload.nominated != decision.nominated:
            run.workload = replace(run.workload, nominated=decision.nominated)

    def _known(self, uid: str) -> Run:
        run = self._running.get(uid)
        if run is None:
            raise self._invariants.broken("NotRunning", f"{uid} holds no places")
        return run

    def _plan_end(self, run: Run) -> None:
        through = run.through_ms()
        if through is not None:
            self._at(max(self._now, through), partial(self._finish, run.workload.uid, run.version))

    def _put_on(self, run: Run, placement: Placement) -> None:
        self._pool.occupy(placement)
        self._books.book(run.workload, placement)

    def _take_off(self, run: Run, placement: Iterable[Assignment]) -> None:
        gone = tuple(placement)
        self._pool.vacate(gone)
        self._books.book(run.workload, gone, -1)

    def _result(self, start: int, end: int) -> SimResult:
        before, after = self._totals
        return SimResult(
            start,
            end,
            self._invariants.cycle,
            self._decided,
            tuple(self._outcomes.values()),
            self._books.series(),
            dict(self._books.devices_of),
            after.since(before),
            self._forecasts.kept(),
            self._useless.preemptions,
            self._useless.voided,
        )


def _stands_on(placement: Placement, node: NodeView, healthy: Iterable[str]) -> bool:
    """Whether a rank of it is on a node, or a device of it, that is gone."""
    here = [assignment for assignment in placement if assignment.node == node.name]
    if not node.alive:
        return bool(here)
    return any(share.device not in healthy for assignment in here for share in assignment.shares)
