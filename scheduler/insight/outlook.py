"""What the next cycle would look at, what it would decide, and when what waits is expected to start."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from common.resources import Workload
from common.resources.workload import STOPS
from scheduler.aside import is_set_aside
from scheduler.core.cycle import run_cycle
from scheduler.core.forecast import Forecast, forecast
from scheduler.core.model.catalogue import Catalogue
from scheduler.core.model.runtimes import Prediction, RunHistory, end_ms
from scheduler.core.model.types import Admit, Decision, Defer, Policy, RunningView, WorkloadView
from scheduler.core.placement.snapshot import Snapshot
from scheduler.core.placement.trial import keep_books
from scheduler.core.pool.pool import Pool
from scheduler.cycles import apart
from scheduler.decisions import wants_successor
from scheduler.insight.answers import QueueRow
from scheduler.insight.queue_numbers import queue_rows
from scheduler.translate.snapshots import SnapshotKeeper
from scheduler.translate.views import World, is_due, successor_view, workload_view

FORECAST_LIMIT = 500
"""So many of the first that wait get an expected start."""

FORECAST_WORK = 150_000
"""Somebody waits for the answer: a few seconds at most. On small pools that is as exact as it gets."""

FORECAST_MOST = 50_000
"""With more that runs no forecast is tried."""

STILL_STOPPING = "StillStopping"
"""The reason that the loop gives a workload whose earlier processes have not ended; only it can know."""


def is_stopping(workload: Workload) -> bool:
    """Whether the loop keeps it out of cycles until its earlier processes have ended."""
    return any(reason.code == STILL_STOPPING for reason in workload.status.pending)


def is_stopped(workload: Workload) -> bool:
    """Whether the loop keeps it out of cycles until a budget has room for it again, or a pause has ended."""
    return any(reason.code in STOPS for reason in workload.status.pending)


def _is_kept_out(workload: Workload) -> bool:
    return is_stopping(workload) or is_stopped(workload)


def waiting_in(world: World, now_ms: int, grace_seconds: float) -> list[WorkloadView]:
    """What the next cycle decides about: what waits, and gangs that are to start beside others."""
    views = []
    for workload in world.workloads.values():
        if is_set_aside(workload):
            continue
        if wants_successor(workload, world, now_ms):
            views.append(successor_view(workload, world, grace_seconds))
        elif is_due(workload, now_ms) and workload.project in world.projects and not _is_kept_out(workload):
            views.append(workload_view(workload, world, grace_seconds))
    return views


@dataclass(frozen=True)
class Rules:
    """How decisions are made at a time, and what is known of devices and of past runs."""

    policy: Policy
    catalogue: Catalogue
    grace_seconds: float
    history: RunHistory = field(default_factory=RunHistory)


class Outlook:
    """One world at one time. Everything is worked out when it is first asked for; the snapshot is its own,
    so nothing that is done with it reaches the scheduler's."""

    def __init__(
        self,
        world: World,
        rules: Rules,
        now_ms: int,
        first: Collection[str] = (),
        same_pool: Outlook | None = None,
    ) -> None:
        """``first``: uids that come before all others of their priority. ``same_pool``: an outlook of a world
        that differs in what waits only; cycles leave a pool as it was, so both may use it."""
        self.world = world
        self._same_pool = same_pool
        self.rules = rules
        self.now_ms = now_ms
        self._first = first

    @cached_property
    def snapshot(self) -> Snapshot:
        grace_seconds = self.rules.grace_seconds
        pending = waiting_in(self.world, self.now_ms, grace_seconds)
        ordered = [replace(v, deadline_ms=0) if v.uid in self._first else v for v in pending]
        if self._same_pool is not None:
            return replace(self._same_pool.snapshot, pending=tuple(ordered))
        keeper = SnapshotKeeper(self.rules.catalogue, grace_seconds)
        aside = {uid for uid, workload in self.world.workloads.items() if is_set_aside(workload)}
        keeper.follow(self.world, self.world.workloads, self.world.nodes, self.now_ms)
        running, held = apart(keeper.running, aside)
        return keeper.take(self.world, ordered, held, {}, self.now_ms, running)

    @cached_property
    def judging_pool(self) -> Pool:
        """The snapshot's pool with what usually comes, and so with prices."""
        self.snapshot.pool.use(self.rules.policy, self.snapshot.workload_mix)
        return self.snapshot.pool

    @cached_property
    def decisions(self) -> Sequence[Decision]:
        """As the next cycle would decide."""
        return run_cycle(self.snapshot, self.rules.policy, self.now_ms)

    @cached_property
    def answers(self) -> Mapping[str, Admit | Defer]:
        """The decision about each workload that waits, by uid, in the order in which they are considered."""
        return {one.uid: one for one in self.decisions if isinstance(one, Admit | Defer)}

    @cached_property
    def predictions(self) -> Mapping[str, Prediction]:
        """How long what does not say it will probably run, by uid: for forecasts alone. Decisions, and so
        promises, rest on what is stated: a wrong guess would break them."""
        views = [*self.snapshot.pending, *(one.workload for one in self.snapshot.running if not one.leaving)]
        found = {view.uid: self._predict(view) for view in views if self._may_end(view)}
        return {uid: prediction for uid, prediction in found.items() if prediction is not None}

    def _predict(self, view: WorkloadView) -> Prediction | None:
        """None also where it cannot be told: one workload's trouble is not the others'."""
        try:
            return self.rules.history.predict(view)
        except (ArithmeticError, ValueError, TypeError):
            return None

    def _may_end(self, view: WorkloadView) -> bool:
        """Whether it will end by itself, although it does not say when."""
        workload = self.world.workloads.get(view.uid.partition("/")[0])
        endless = workload is None or workload.spec.restart.policy == "Always"
        return view.expected_seconds is None and not endless

    def end_ms(self, running: RunningView) -> int | None:
        """When its places come free, by what is stated, else by what is predicted; None = not foreseeable."""
        prediction = self.predictions.get(running.workload.uid)
        return end_ms(running, self.now_ms, prediction.seconds if prediction else None)

    @cached_property
    def _forecast(self) -> Forecast:
        if len(self.snapshot.running) > FORECAST_MOST:
            return Forecast()
        seconds = {uid: prediction.seconds for uid, prediction in self.predictions.items()}
        return forecast(self.snapshot, self.rules.policy, self.now_ms, FORECAST_LIMIT, FORECAST_WORK, seconds)

    @cached_property
    def starts(self) -> Mapping[str, int]:
        """When what waits is expected to start, by uid; where that is not foreseeable it is missing."""
        admitted = (uid for uid, answer in self.answers.items() if isinstance(answer, Admit))
        return {**self._forecast.starts, **dict.fromkeys(admitted, self.now_ms)}

    def start_ms(self, answer: Defer) -> int | None:
        """When a workload that waits is expected to start; None = not foreseeable."""
        return None if answer.never else self.starts.get(answer.uid, answer.reserved_ms)

    def is_guess(self, uid: str) -> bool:
        """Whether its expected start comes after ends that were predicted by past runs."""
        return uid in self._forecast.guessed

    @cached_property
    def queues(self) -> Mapping[str, QueueRow]:
        """Numbers of all queues and cohorts, by name."""
        snapshot = self.snapshot
        books = keep_books(snapshot.queues, snapshot.pool, snapshot.running)
        rows = queue_rows(snapshot.queues, books, self.world.workloads.values())
        return {row.name: row for row in rows}

    def line(self, queue: str) -> list[str]:
        """The uids that keep waiting in that queue, in the order in which they are considered."""
        of_queue = {view.uid for view in self.snapshot.pending if view.queue == queue}
        return [uid for uid, answer in self.answers.items() if uid in of_queue and isinstance(answer, Defer)]

    def why_no_start(self, answer: Defer) -> str:
        """Why nobody can say when it starts."""
        code = answer.reasons[0].code
        if answer.never:
            return "it never fits on this pool"
        if code in _BY_PEOPLE:
            return _BY_PEOPLE[code]
        running = [view for view in self.snapshot.running if not view.leaving]
        endless = sum(self.end_ms(view) is None for view in running)
        if len(running) > FORECAST_MOST:
            return "too much runs to look ahead; room is held for the first that wait only"
        if answer.position > FORECAST_LIMIT:
            return f"only the first {FORECAST_LIMIT} that wait are forecast, it is number {answer.position}"
        if endless:
            verb = "has" if endless == 1 else "have"
            return (
                f"{endless} of {len(running)} running workloads {verb} no expectedSeconds, "
                "and too few like them have ended to tell"
            )
        return "it does not start within the time that is looked ahead"


_BY_PEOPLE = {
    "NoNodes": "nobody can say when a node joins",
    "NodeLost": "nobody can say when a lost node comes back",
    "NodeCordoned": "nobody can say when a node is uncordoned",
    "DeviceUnhealthy": "nobody can say when a device is repaired",
    "QueueUnknown": "it waits until its queue is there",
    "QueueNotAllowed": "it waits until its project may use the queue",
}
"""What ends when somebody does something."""
