"""The scheduler loop: observe, advance, admit, start, stop, meter. Level-triggered: each pass starts from
what is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from common.clock import Clock
from common.errors import Conflict, NotFound
from common.ids import derived_id
from common.loop import run_passes
from common.resources import Workload
from common.resources.workload import PendingReason, WorkloadStatus
from common.settings import Settings
from common.store.port import Event, Store
from common.telemetry import get_logger
from scheduler import metrics
from scheduler.core.cycle import run_cycle
from scheduler.core.lifecycle import PLACED, Note, advance
from scheduler.core.types import Admit, Decision, Policy
from scheduler.gangs import GangKeeper
from scheduler.metering import DeviceMeter
from scheduler.nodes import NodeWriter
from scheduler.observed import Observed, merge_ranks, seen_of
from scheduler.ports import Fabric, UsageSink
from scheduler.transitions import after_admit, after_defer, after_step, exit_notes, log_tail
from scheduler.views import (
    World,
    devices_in_use,
    holds_places,
    is_due,
    read_world,
    restarts_view,
    state_view,
    take_snapshot,
)

_log = get_logger(__name__)


class SchedulerLoop:
    """The only writer of Node, Queue and Workload statuses."""

    def __init__(
        self,
        store: Store,
        fabric: Fabric,
        usage: UsageSink,
        settings: Settings,
        clock: Clock,
        policy: Policy | None = None,
    ) -> None:
        self._store = store
        self._fabric = fabric
        self._clock = clock
        self._settings = settings
        self._policy = policy or Policy()
        self._last_event_ms = 0
        self._nodes = NodeWriter(store, clock)
        self._meter = DeviceMeter(fabric, usage)
        self._gangs = GangKeeper(fabric, settings)

    async def run(self, stop: asyncio.Event) -> None:
        """Pass after pass until ``stop`` is set."""
        await run_passes("scheduler", self.step, self._store, stop, self._settings.scheduler.cycle_seconds)

    async def step(self) -> None:
        """One pass. Raises ``Unavailable`` when the fabric cannot be reached; nothing has been changed
        then."""
        began = self._clock.monotonic_seconds()
        observed = Observed(await self._fabric.nodes())
        world = await read_world(self._store)
        await self._nodes.sync(world, list(observed.nodes.values()))
        for workload in list(world.workloads.values()):
            await self._advance(workload, world, observed)
        await self._meter.meter(observed, self._clock.now_ms())
        await self._admit(world, observed)
        for workload in list(world.workloads.values()):
            if workload.status.phase in PLACED:
                await self._start(workload, world, observed)
        await self._gangs.stop_unwanted(world, observed, self._meter)
        await self._sum_up(world)
        metrics.CYCLE_SECONDS.observe(self._clock.monotonic_seconds() - began)

    async def _advance(self, workload: Workload, world: World, observed: Observed) -> None:
        """Take the workload's status to where its gang and its spec say that it is."""
        now_ms, before = self._clock.now_ms(), workload.status.ranks
        ranks = merge_ranks(workload, observed)
        seen = seen_of(workload, ranks, observed, world.nodes)
        step = advance(
            restarts_view(workload.spec.restart), workload.spec.suspend, state_view(workload), seen, now_ms
        )
        was_running = workload.status.phase in PLACED
        exits = [(note, log_tail(workload, rank, observed)) for rank, note in exit_notes(before, ranks)]
        if not await self._write(workload, after_step(workload, ranks, step, now_ms), world):
            return
        for note, tail in exits if was_running else ():
            await self._note(workload, note, {"log": tail})
        for note in step.notes:
            await self._note(workload, note, {})

    async def _admit(self, world: World, observed: Observed) -> None:
        """Run a cycle over what waits, and write its decisions down before anything starts."""
        now_ms = self._clock.now_ms()
        waiting = [workload for workload in world.workloads.values() if is_due(workload, now_ms)]
        ready = []
        for workload in waiting:
            obstacle = self._obstacle(workload, world, observed)
            if obstacle is None:
                ready.append(workload)
            else:
                await self._hold_back(workload, obstacle, world)
        holding = {uid for uid, workload in world.workloads.items() if holds_places(workload)}
        snapshot = take_snapshot(world, ready, observed.lingering(holding))
        decisions = await asyncio.to_thread(run_cycle, snapshot, self._policy, now_ms)
        for decision in decisions:
            await self._decide(decision, world, now_ms)
        metrics.report(world, take_snapshot(world, (), observed.lingering(holding)))

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
        await self._write(workload, workload.status.model_copy(update=update, deep=True), world)

    async def _decide(self, decision: Decision, world: World, now_ms: int) -> None:
        workload = world.workloads[decision.uid]
        if not isinstance(decision, Admit):
            first_time = not workload.status.pending
            written = await self._write(workload, after_defer(workload, decision, now_ms), world)
            if written and first_time:
                await self._note(workload, Note("Waiting", decision.reasons[0].message), {})
            return
        if await self._write(workload, after_admit(workload, decision, now_ms), world):
            nodes = ", ".join(sorted({assignment.node for assignment in decision.placement}))
            await self._note(workload, Note("Admitted", f"placed on {nodes}"), {})

    async def _start(self, workload: Workload, world: World, observed: Observed) -> None:
        assigned = any(rank.state == "Assigned" for rank in workload.status.ranks)
        startable = assigned and workload.project in world.projects and not workload.spec.suspend
        if startable and await self._gangs.start_missing(workload, world, observed):
            await self._note_once(workload, Note("Started", f"attempt {workload.status.attempt} started"))

    async def _sum_up(self, world: World) -> None:
        """Write the status of each queue."""
        for queue in world.queues.values():
            mine = [w for w in world.workloads.values() if w.spec.queue == queue.name]
            queue.status.pending = sum(w.status.phase == "Pending" for w in mine)
            queue.status.running = sum(w.status.phase in PLACED for w in mine)
            queue.status.devices_in_use = devices_in_use(world, queue.name)
            queue.status.observed_generation = queue.metadata.generation
            try:
                await self._store.set_status(queue)
            except (Conflict, NotFound):
                _log.debug("queue changed meanwhile", queue=queue.name)

    async def _write(self, workload: Workload, status: WorkloadStatus, world: World) -> bool:
        """Write a status if the workload is still as it was read. Another writer wins; the next pass sees
        why."""
        uid = workload.metadata.uid
        if status == workload.status:
            return True
        changed = workload.model_copy(update={"status": status})
        try:
            world.workloads[uid] = await self._store.set_status(changed)
        except Conflict:
            _log.debug("workload changed meanwhile", workload=workload.key)
            return False
        except NotFound:
            world.workloads.pop(uid, None)
            return False
        return True

    async def _note(self, workload: Workload, note: Note, data: dict[str, str]) -> None:
        now = self._clock.now_ms()
        await self._record(workload, note, data, (workload.metadata.resource_version, now, note.message))

    async def _note_once(self, workload: Workload, note: Note) -> None:
        await self._record(workload, note, {}, (workload.status.attempt,))

    async def _record(
        self, workload: Workload, note: Note, data: dict[str, str], identity: Iterable[str | int]
    ) -> None:
        self._last_event_ms = max(self._clock.now_ms(), self._last_event_ms + 1)
        event = Event(
            id=derived_id("evt", workload.metadata.uid, note.reason, *identity),
            time_ms=self._last_event_ms,  # two of one millisecond keep their order
            level=note.level,
            reason=note.reason,
            message=note.message,
            kind="Workload",
            name=workload.name,
            project=workload.project,
            data=data,
        )
        await self._store.record(event)
        _log.info(
            "workload", name=workload.name, project=workload.project, reason=note.reason, message=note.message
        )
