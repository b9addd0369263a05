"""The scheduler loop: observe, advance, decide, start, stop, meter. Level-triggered: each pass starts from
what is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from billing.core.sink import UsageSink
from billing.rejected import rejected_usage
from common.clock import Clock
from common.guard import Fault, Guard
from common.loop import LoopHealth, in_turns, run_passes
from common.resources import Workload
from common.resources.workload import RankPlacement
from common.settings import Settings
from common.store.port import Store
from common.threads import Threads
from scheduler import metrics
from scheduler.aside import ADVANCE, SchedulerGuard
from scheduler.attention import Attention
from scheduler.catalogue import load_catalogue
from scheduler.core.lifecycle.lifecycle import PLACED, Note, Step, advance
from scheduler.core.model.types import Placement
from scheduler.cycles import CycleInput, Cycles, Decided, apart
from scheduler.decisions import Decider
from scheduler.draining import DrainWatch
from scheduler.gangs import GangKeeper, gangs_of
from scheduler.journal import Journal
from scheduler.metering import DeviceMeter
from scheduler.nodes import NodeWriter
from scheduler.policy import PolicyMaker
from scheduler.ports import Fabric, NodeObservation, RejectedSink, Stops
from scheduler.queue_events import QueueNews
from scheduler.queues import QueueBook
from scheduler.replicas import ReplicaKeeper
from scheduler.serving_need import Need
from scheduler.stops import StopBook
from scheduler.translate.collector import LARGE_WORLD, set_world_apart
from scheduler.translate.kept_world import KINDS, KeptWorld, WorldKeeper
from scheduler.translate.observed import Moved, Observed, merge_ranks, seen_of
from scheduler.translate.placements import held_by
from scheduler.translate.snapshots import SnapshotKeeper, held_attempts
from scheduler.translate.transitions import after_step, exit_notes, failure_of
from scheduler.translate.views import World, holds_places, is_group, restarts_view, state_view
from scheduler.waiting import Waiting

AT_WORK = frozenset(("Pending", "Running"))
"""Phases of which the next look may tell more: what waits may start, what runs may end."""
SPANS_SECONDS = 2.0
"""Spans of device time that are over are posted so often at rest."""
START_TRIES = 8
"""A gang that a node could not start so often, within two minutes, gives its places back."""


class SchedulerLoop:
    """The only writer of Node, Queue and Workload statuses. Raises ``InvalidInput`` where the settings of
    policy or catalogue are wrong."""

    def __init__(
        self,
        store: Store,
        fabric: Fabric,
        usage: UsageSink,
        settings: Settings,
        clock: Clock,
        needs: Mapping[str, Need] | None = None,
        rejected: RejectedSink | None = None,
        stops: Stops | None = None,
    ) -> None:
        """``needs``: of inference, by class of devices; see ``PolicyMaker``. ``rejected``: keeps device time
        that cannot be billed; None = a file beside those of the gateways. ``stops``: what may not run for
        now."""
        options = settings.scheduler
        self._fabric = fabric
        self._clock = clock
        self._settings = settings
        self._store = store
        self._policy = PolicyMaker(options.policy, needs)
        items = Guard("scheduler", clock)
        self._journal = Journal(store, clock, items)
        self._guard = SchedulerGuard(self._journal, clock, items)
        self._decider = Decider(self._journal, settings, self._guard)
        self._worlds = WorldKeeper(store)
        world = self._worlds.world
        self._observed = Observed()
        self._doubtful = True
        self._attention = Attention(world, clock)
        self._nodes = NodeWriter(
            store, clock, options.flap_backoff_seconds, options.node_late_seconds, items, world
        )
        self._drains = DrainWatch(store, clock, world)
        self._queues = QueueBook(store, clock, items, world)
        self._queue_news = QueueNews(store, clock, items)
        rejected = rejected or rejected_usage(settings)
        self._meter = DeviceMeter(fabric, usage, rejected, clock, items)
        self._gangs = GangKeeper(fabric, settings)
        self._replicas = ReplicaKeeper(store, self._journal, self._guard, world)
        catalogue = load_catalogue(Path(options.catalogue_file) if options.catalogue_file else None)
        self._threads = Threads("decisions", 1)
        self._snapshots = SnapshotKeeper(catalogue, options.stop_grace_seconds)
        self._cycles = Cycles(self._snapshots)
        self._stops = StopBook(stops, world, items)
        self._waiting = Waiting(world, settings, self._journal, self._guard, self._stops)
        self._to_view = world.reader()
        self._lingering: dict[str, Placement] = {}
        self._is_at_rest = False
        self.answered_seconds = -math.inf
        """When the fabric last answered, on the monotonic clock."""
        self._reporter = metrics.Reporter(world)
        self._began_seconds = clock.monotonic_seconds()

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Pass after pass until ``stop`` is set."""
        passes = partial(run_passes, kinds=KINDS, news=self._news)
        await passes("scheduler", self.step, self._store, stop, self.tick_seconds, health)

    def tick_seconds(self) -> float:
        """Until the next look at all nodes, where no change in the store, and at rest no news of a node,
        comes before it. Rest leaves time to ask a silent node once more before it counts as lost."""
        options = self._settings.scheduler
        if not self._is_at_rest:
            return options.cycle_seconds
        spans_seconds = max(SPANS_SECONDS, self._meter.due_seconds(self._clock.now_ms()))
        rest_seconds = min(options.rest_seconds, options.node_lost_seconds / 2, spans_seconds)
        return max(options.cycle_seconds, rest_seconds)

    async def _news(self, seconds: float) -> None:
        """Return when a node tells of something, not before the next cycle; else after so many seconds."""
        cycle_seconds = self._settings.scheduler.cycle_seconds
        if self._is_at_rest:
            await asyncio.gather(self._fabric.news(seconds), asyncio.sleep(min(seconds, cycle_seconds)))
        else:
            await asyncio.sleep(seconds)

    async def step(self) -> None:
        """One pass. The trouble of one workload, gang, node or queue holds up no other. Raises
        ``Unavailable`` when the fabric cannot be reached; nothing has been changed then. After a pass that
        failed the next one reads everything anew."""
        began = self._clock.monotonic_seconds()
        try:
            await self._step()
        except BaseException:
            self._journal.drop()
            self._worlds.forget()
            self._snapshots.forget()
            self._doubtful, self._is_at_rest = True, False
            raise
        metrics.CYCLE_SECONDS.observe(self._clock.monotonic_seconds() - began)

    async def _step(self) -> None:
        observations, world, observed = await self._fabric.nodes(), self._worlds.world, self._observed
        self.answered_seconds = self._clock.monotonic_seconds()
        await self._worlds.follow()
        moved = observed.follow([*observations, *self._not_yet_seen(observations, world)], self._doubtful)
        self._doubtful = False
        await self._nodes.sync(world, observed, moved.nodes)
        await self._replicas.sync(world)
        uids = self._attention.look(moved, self._guard.aside())
        uids |= await self._stops.look()
        async for workload in in_turns(_those(uids, world)):
            if not is_group(workload):
                work = partial(self._advance, workload, world, observed)
                self._guard.step(ADVANCE, workload, world, work)
        await self._decide(world, observed, moved, uids)
        async for workload in in_turns(_those(uids, world)):
            start = partial(self._start, workload, world, observed)
            await self._guard.long_step("start", workload, world, start)
        await self._bill(world, observed, moved)
        await self._gangs.stop_unwanted(uids, world, observed, self._meter, self._guard.items)
        self._replicas.sum_up(world)
        self._guard.settle(world)
        await self._flush(world)
        await self._queues.sum_up(world)
        await self._queue_news.tell(world)
        await self._drains.look(world)
        await self._attention.settle(observed)
        self._is_at_rest = self._has_come_to_rest(world, observed)
        with self._guard.items.item("Metrics", ("metrics", "report")):
            await self._reporter.report(observed, moved.nodes)
        if self._worlds.is_new and len(world.workloads) >= LARGE_WORLD:
            set_world_apart()

    def _has_come_to_rest(self, world: KeptWorld, observed: Observed) -> bool:
        """Whether nothing is under way of which the next look would tell more."""
        at_work = any(phase in AT_WORK for _, phase in world.standings.members)
        under_way = at_work or self._attention.is_busy or self._lingering or observed.silent
        return bool(observed.nodes) and not under_way

    async def _flush(self, world: World) -> None:
        """Write down what has been decided until now."""
        for workload, fault in await self._journal.flush(world):
            self._guard.tell(workload, fault, world)

    def _not_yet_seen(self, observations: Sequence[NodeObservation], world: World) -> list[NodeObservation]:
        """Nodes of an earlier control process that have not shown up since this one began: silent at first,
        so that what runs there is not started twice."""
        since = self._clock.monotonic_seconds() - self._began_seconds
        if since >= self._settings.scheduler.node_lost_seconds:
            return []
        seen = {observation.name for observation in observations}
        return [
            NodeObservation(
                node.name,
                node.status.ray_node_id,
                node.status.address,
                "Silent",
                devices=tuple(node.status.devices),
            )
            for node in world.nodes.values()
            if node.name not in seen and node.status.is_true("Ready")
        ]

    def _advance(self, workload: Workload, world: World, observed: Observed) -> None:
        """Take the workload's status to where its gang and its spec say that it is."""
        now_ms, status = self._clock.now_ms(), workload.status
        ranks = merge_ranks(workload, status.attempt, status.ranks, observed)
        successor, not_started = status.next, self._not_started(workload, status.attempt)
        planned = merge_ranks(workload, successor.attempt, successor.ranks, observed) if successor else []
        if not_started is not None:
            ranks = [_given_up(rank) for rank in ranks]
        if successor is not None and self._not_started(workload, successor.attempt) is not None:
            planned = [_given_up(rank) for rank in planned]
        grace_seconds = self._settings.scheduler.stop_grace_seconds
        stop = self._stops.why(workload)
        barred = stop.message if stop is not None else ""
        seen = seen_of(workload, ranks, planned, observed, world.nodes, grace_seconds, barred)
        step = advance(
            restarts_view(workload.spec.restart), workload.spec.suspend, state_view(workload), seen, now_ms
        )
        if not_started is not None and step.state.phase != status.phase:
            step = _because(step, not_started)
        exits = list(exit_notes(workload, ranks, observed))
        failure = failure_of(workload, status.ranks, ranks, observed, now_ms)
        self._journal.write(workload, after_step(workload, ranks, planned, step, now_ms, failure), world)
        if status.phase not in PLACED or step.state.phase not in PLACED:
            self._guard.items.handled(("start", workload.metadata.uid, status.attempt))
        for note, tail in exits if status.phase in PLACED else ():
            self._journal.note(workload, note, {"log": tail})
        for note in step.notes:
            self._journal.note(workload, note)

    def _not_started(self, workload: Workload, attempt: int) -> Fault | None:
        """Why a gang of it is not started any more where it is; None while that is tried."""
        key = ("start", workload.metadata.uid, attempt)
        return self._guard.items.fault_of(key) if self._guard.items.tries_of(key) >= START_TRIES else None

    async def _bill(self, world: World, observed: Observed, moved: Moved) -> None:
        """Post device time. What is not billed is told where there is somebody to tell."""
        for found in await self._meter.meter(observed, self._clock.now_ms(), moved.nodes):
            workload = world.workloads.get(found.uid)
            if workload is None:
                continue
            if not found.rejected:
                self._guard.tell(workload, found.fault, world)
                continue
            note = Note("UsageRejected", f"device time is not billed: {found.fault.message}", "error")
            with self._guard.items.item("Workload", ("note", found.uid)):
                self._journal.note_once(workload, note, found.id)

    async def _decide(self, world: KeptWorld, observed: Observed, moved: Moved, uids: set[str]) -> None:
        """Run a cycle over what waits, and write its decisions down before anything starts. ``uids``: of this
        pass; those about whom something is decided are added."""
        now_ms, faults = self._clock.now_ms(), self._snapshots.faults
        pending = self._waiting.views(uids, observed, now_ms)
        await self._flush(world)
        await self._look(world, observed, moved, now_ms)
        resting, spent, policy = (
            self._guard.resting(world),
            self._queues.spent(world),
            self._policy.at(now_ms),
        )
        metrics.report_tides(policy)
        decided = Decided()
        if pending or policy.tides or self._snapshots.is_flexible or self._guard.may_break(faults):
            running, out = apart(self._snapshots.running, resting)
            lingering = (*(rank for ranks in self._lingering.values() for rank in ranks), *out)
            asked = CycleInput(world, pending, running, lingering, spent, policy, now_ms)
            decided = await self._threads.run(self._cycles.run, asked)
        unknown = {uid: error for (kind, uid), error in faults.items() if kind == "Workload"}
        self._guard.after_cycle(world, resting, {**unknown, **decided.culprits})
        self._guard.note_views("Node", faults)
        self._guard.note_views("Queue", faults)
        self._queue_news.look(decided.decisions, world)
        held_on = partial(self._held_on, world, unknown)
        self._decider.carry_out(decided.decisions, world, held_on, now_ms)
        await self._flush(world)
        uids |= self._decider.touched

    async def _look(self, world: KeptWorld, observed: Observed, moved: Moved, now_ms: int) -> None:
        """Take note of what has changed for cycles: what runs, nodes, and processes that still stop although
        no workload holds their places."""
        snapshots, changed = self._snapshots, self._to_view.take_workloads()
        async for _ in in_turns(snapshots.looks(world, changed, self._to_view.take_nodes(), now_ms)):
            pass
        async for uid in in_turns(changed | moved.uids):
            held = () if ("Workload", uid) in snapshots.faults else held_attempts(world.workloads.get(uid))
            lingering = observed.lingering(uid, held)
            if lingering:
                self._lingering[uid] = lingering
            else:
                self._lingering.pop(uid, None)

    def _held_on(
        self, world: KeptWorld, unknown: Container[str], names: Collection[str]
    ) -> Iterator[Placement]:
        """All placements that hold devices of these nodes, by gangs and by processes that still stop."""
        on_node = world.standings.on_node
        for uid in {uid for name in names for uid in on_node.get(name, ())}:
            if uid not in unknown and holds_places(world.workloads[uid]):
                yield held_by(world.workloads[uid])
        yield from self._lingering.values()

    async def _start(self, workload: Workload, world: World, observed: Observed) -> None:
        """Start what is missing of its gangs. One that cannot be started is given up after a while."""
        for gang in gangs_of(workload) if workload.project in world.projects else ():
            key, generation = ("start", workload.metadata.uid, gang.attempt), workload.metadata.generation
            assigned = any(rank.state == "Assigned" for rank in gang.ranks)
            if not assigned or not self._guard.items.may_try(key, generation):
                continue
            with self._guard.items.item("Workload", key, generation) as tried:
                if await self._gangs.start_missing(workload, gang, world, observed):
                    note = Note("Started", f"attempt {gang.attempt} started")
                    self._journal.note_once(workload, note, gang.attempt)
            if tried.fault is not None:
                self._guard.tell(workload, tried.fault, world)


def _those(uids: Iterable[str], world: World) -> list[Workload]:
    """The workloads of them that there are."""
    return [world.workloads[uid] for uid in sorted(uids) if uid in world.workloads]


def _given_up(rank: RankPlacement) -> RankPlacement:
    """One that has not started is lost."""
    return rank.model_copy(update={"state": "Lost"}) if rank.state == "Assigned" else rank


def _because(step: Step, fault: Fault) -> Step:
    """The step with the reason why its gang was not started."""
    message = f"could not be started: {fault.message}"
    state = replace(step.state, message=f"{message}; {step.state.message}")
    return replace(step, state=state, notes=(Note("NotStarted", message, "error"), *step.notes))
