"""The scheduler loop: observe, advance, decide, start, stop, meter. Level-triggered: each pass starts from
what is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from billing.rejected import rejected_usage
from common.clock import Clock
from common.guard import Fault
from common.loop import LoopHealth, run_passes
from common.resources import Workload
from common.resources.workload import PendingReason, RankPlacement
from common.settings import Settings
from common.store.port import Store
from common.threads import Threads
from scheduler import metrics
from scheduler.aside import ADVANCE, SchedulerGuard
from scheduler.catalogue import load_catalogue
from scheduler.core.lifecycle.lifecycle import PLACED, Note, Step, advance
from scheduler.core.model.types import WorkloadView
from scheduler.cycles import Asked, Cycles, apart
from scheduler.decisions import Decider, wants_successor
from scheduler.gangs import GangKeeper, gangs_of
from scheduler.journal import Journal
from scheduler.metering import DeviceMeter
from scheduler.nodes import NodeWriter
from scheduler.policy import PolicyMaker
from scheduler.ports import Fabric, NodeObservation, RejectedSink, UsageSink
from scheduler.queues import QueueBook
from scheduler.replicas import ReplicaKeeper
from scheduler.serving_need import Need
from scheduler.translate.observed import Observed, merge_ranks, seen_of
from scheduler.translate.placements import held_by
from scheduler.translate.snapshots import SnapshotKeeper, holding
from scheduler.translate.transitions import after_step, exit_notes, log_tail
from scheduler.translate.views import (
    World,
    holds_places,
    is_due,
    is_group,
    read_world,
    restarts_view,
    state_view,
    successor_view,
    workload_view,
)

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
    ) -> None:
        """``needs``: of inference, by class of devices; see ``PolicyMaker``. ``rejected``: keeps device time
        that cannot be billed; None = a file beside those of the gateways."""
        options = settings.scheduler
        self._store = store
        self._fabric = fabric
        self._clock = clock
        self._settings = settings
        self._policy = PolicyMaker(options.policy, needs)
        self._journal = Journal(store, clock)
        self._guard = SchedulerGuard(self._journal, clock)
        self._decider = Decider(self._journal, settings, self._guard)
        self._nodes = NodeWriter(
            store, clock, options.flap_backoff_seconds, options.node_late_seconds, self._guard.items
        )
        self._queues = QueueBook(store, clock, self._guard.items)
        rejected = rejected or rejected_usage(settings)
        self._meter = DeviceMeter(fabric, usage, rejected, clock, self._guard.items)
        self._gangs = GangKeeper(fabric, settings)
        self._replicas = ReplicaKeeper(store, self._journal, self._guard)
        catalogue = load_catalogue(Path(options.catalogue_file) if options.catalogue_file else None)
        self._threads = Threads("decisions", 1)
        self._snapshots = SnapshotKeeper(catalogue, options.stop_grace_seconds)
        self._cycles = Cycles(self._snapshots)
        self._began_seconds = clock.monotonic_seconds()

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Pass after pass until ``stop`` is set."""
        tick_seconds = self._settings.scheduler.cycle_seconds
        await run_passes("scheduler", self.step, self._store, stop, tick_seconds, health)

    async def step(self) -> None:
        """One pass. The trouble of one workload, gang, node or queue holds up no other. Raises
        ``Unavailable`` when the fabric cannot be reached; nothing has been changed then."""
        began = self._clock.monotonic_seconds()
        observations = await self._fabric.nodes()
        world = await read_world(self._store)
        observed = Observed([*observations, *self._not_yet_seen(observations, world)])
        await self._nodes.sync(world, list(observed.nodes.values()))
        await self._replicas.sync(world)
        for workload in list(world.workloads.values()):
            if not is_group(workload):
                work = partial(self._advance, workload, world, observed)
                await self._guard.step(ADVANCE, workload, world, work)
        await self._bill(world, observed)
        await self._decide(world, observed)
        for workload in list(world.workloads.values()):
            await self._guard.step("start", workload, world, partial(self._start, workload, world, observed))
        await self._gangs.stop_unwanted(world, observed, self._meter, self._guard.items)
        await self._replicas.sum_up(world)
        await self._queues.sum_up(world)
        await self._guard.settle(world)
        with self._guard.items.item("Metrics", ("metrics", "report")):
            metrics.report(world, observed)
        metrics.CYCLE_SECONDS.observe(self._clock.monotonic_seconds() - began)

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

    async def _advance(self, workload: Workload, world: World, observed: Observed) -> None:
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
        seen = seen_of(workload, ranks, planned, observed, world.nodes, grace_seconds)
        step = advance(
            restarts_view(workload.spec.restart), workload.spec.suspend, state_view(workload), seen, now_ms
        )
        if not_started is not None and step.state.phase != status.phase:
            step = _because(step, not_started)
        exits = [(note, log_tail(workload, rank, observed)) for rank, note in exit_notes(status.ranks, ranks)]
        if not await self._journal.write(workload, after_step(workload, ranks, planned, step, now_ms), world):
            return
        if status.phase not in PLACED or step.state.phase not in PLACED:
            self._guard.items.handled(("start", workload.metadata.uid, status.attempt))
        for note, tail in exits if status.phase in PLACED else ():
            await self._journal.note(workload, note, {"log": tail})
        for note in step.notes:
            await self._journal.note(workload, note)

    def _not_started(self, workload: Workload, attempt: int) -> Fault | None:
        """Why a gang of it is not started any more where it is; None while that is tried."""
        key = ("start", workload.metadata.uid, attempt)
        return self._guard.items.fault_of(key) if self._guard.items.tries_of(key) >= START_TRIES else None

    async def _bill(self, world: World, observed: Observed) -> None:
        """Post device time. What is not billed is told where there is somebody to tell."""
        for found in await self._meter.meter(observed, self._clock.now_ms()):
            workload = world.workloads.get(found.uid)
            if workload is None:
                continue
            if not found.rejected:
                await self._guard.tell(workload, found.fault, world)
                continue
            note = Note("UsageRejected", f"device time is not billed: {found.fault.message}", "error")
            with self._guard.items.item("Workload", ("note", found.uid)):
                await self._journal.note_once(workload, note, found.id)

    async def _decide(self, world: World, observed: Observed) -> None:
        """Run a cycle over what waits, and write its decisions down before anything starts."""
        now_ms = self._clock.now_ms()
        pending = await self._pending(world, observed, now_ms)
        faults, resting = self._snapshots.faults, self._guard.resting(world)
        faults.clear()
        running, out = apart(self._snapshots.running(world), resting)
        lingering = [*observed.lingering(holding(world, faults)), *out]
        policy = self._policy.at(now_ms)
        metrics.report_tides(policy)
        asked = Asked(world, pending, running, lingering, self._queues.spent(world), policy, now_ms)
        decided = await self._threads.run(self._cycles.run, asked)
        unknown = {uid: error for (kind, uid), error in faults.items() if kind == "Workload"}
        await self._guard.after_cycle(world, resting, {**unknown, **decided.culprits})
        self._guard.note_views("Node", world.nodes, faults)
        self._guard.note_views("Queue", world.queues, faults)
        held = [held_by(w) for uid, w in world.workloads.items() if holds_places(w) and uid not in unknown]
        await self._decider.carry_out(decided.decisions, world, [*held, tuple(lingering)], now_ms)

    async def _pending(self, world: World, observed: Observed, now_ms: int) -> list[WorkloadView]:
        """Workloads that wait for a place, and gangs that are to start beside others."""
        grace_seconds = self._settings.scheduler.stop_grace_seconds
        views: list[WorkloadView] = []

        async def look(workload: Workload) -> None:
            if wants_successor(workload, world, now_ms):
                views.append(successor_view(workload, world, grace_seconds))
            elif is_due(workload, now_ms):
                obstacle = self._obstacle(workload, world, observed)
                if obstacle is None:
                    views.append(workload_view(workload, world, grace_seconds))
                else:
                    await self._hold_back(workload, obstacle, world)
            elif workload.status.phase in PLACED and workload.status.pending and not is_group(workload):
                settled = workload.status.model_copy(update={"pending": []}, deep=True)
                await self._journal.write(workload, settled, world)

        for workload in list(world.workloads.values()):
            if self._guard.may_place(workload):
                await self._guard.step("look", workload, world, partial(look, workload))
        return views

    def _obstacle(self, workload: Workload, world: World, observed: Observed) -> PendingReason | None:
        """What keeps a workload from being considered at all."""
        if workload.project not in world.projects:
            message = f"there is no project {workload.project}, so nobody could be charged; apply it"
            return PendingReason(code="ProjectUnknown", message=message)
        if observed.is_alive(workload.metadata.uid):
            return PendingReason(code="StillStopping", message="waits for its previous processes to end")
        return None

    async def _hold_back(self, workload: Workload, reason: PendingReason, world: World) -> None:
        update = {"pending": [reason], "message": reason.message}
        await self._journal.write(workload, workload.status.model_copy(update=update, deep=True), world)

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
                    await self._journal.note_once(workload, note, gang.attempt)
            if tried.fault is not None:
                await self._guard.tell(workload, tried.fault, world)


def _given_up(rank: RankPlacement) -> RankPlacement:
    """One that has not started is lost."""
    return rank.model_copy(update={"state": "Lost"}) if rank.state == "Assigned" else rank


def _because(step: Step, fault: Fault) -> Step:
    """The step with the reason why its gang was not started."""
    message = f"could not be started: {fault.message}"
    state = replace(step.state, message=f"{message}; {step.state.message}")
    return replace(step, state=state, notes=(Note("NotStarted", message, "error"), *step.notes))
