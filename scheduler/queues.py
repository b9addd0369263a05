"""Queue statuses: who waits and runs through each, and the device time that it has used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from common.clock import Clock
from common.guard import HANDLED, Fault, Guard, tell_handled
from common.resources import Queue
from common.resources.pool import WHOLE_MILLIS, DeviceUse, QueueStatus
from common.store.port import Store
from scheduler.core.lifecycle.lifecycle import PLACED
from scheduler.core.quota.spending import Spent, spend
from scheduler.translate.placements import held_by
from scheduler.translate.views import World, devices_in_use, holds_places, is_group, spent_view

WRITE_MS = 60_000
"""How often device time alone is written. A control process that is killed loses so much at most, and charges
its own absence at what ran when it came back."""


class QueueBook:
    """Keeps account of device time in memory, and writes the statuses of queues and cohorts."""

    def __init__(self, store: Store, clock: Clock, guard: Guard | None = None) -> None:
        self._guard = guard or Guard("queues", clock)
        self._store = store
        self._clock = clock
        self._spent: dict[str, dict[str, Spent]] = {}
        self._since_ms: dict[str, int] = {}

    def spent(self, world: World) -> dict[str, dict[str, Spent]]:
        """Per queue and model what has been used until now, counting what is held now since the last call."""
        now_ms = self._clock.now_ms()
        held = held_devices(world)
        for name, queue in world.queues.items():
            with self._guard.item("Queue", ("spent", name)):
                self._spend(queue, held.get(name, {}), now_ms)
        self._spent = {name: spent for name, spent in self._spent.items() if name in world.queues}
        self._since_ms = {name: since for name, since in self._since_ms.items() if name in world.queues}
        return self._spent

    def _spend(self, queue: Queue, held: Mapping[str, float], now_ms: int) -> None:
        name, since_ms = queue.name, self._since_ms.get(queue.name)
        if since_ms is None:
            self._spent[name] = spent_view(queue)
            since_ms = now_ms if queue.status.used_ms is None else min(now_ms, queue.status.used_ms)
        self._spent[name] = spend(self._spent[name], held, since_ms, now_ms)
        self._since_ms[name] = now_ms

    async def sum_up(self, world: World) -> None:
        """Write the status of each queue that has changed."""
        slots = devices_in_use(world)
        phases = Counter(
            (workload.spec.queue, str(workload.status.phase))
            for workload in world.workloads.values()
            if not is_group(workload)
        )
        for queue in world.queues.values():
            aside = _is_aside(queue)
            with self._guard.item("Queue", ("sum up", queue.name)) as tried:
                await self._sum_up(queue, phases, slots.get(queue.name, 0))
            fault = tried.fault or self._guard.fault_of(("spent", queue.name)) or self._fault_of_view(queue)
            if fault is not None or aside:
                await tell_handled(self._store, queue, fault, self._clock)

    def _fault_of_view(self, queue: Queue) -> Fault | None:
        return self._guard.fault_of(("Queue", queue.name))

    async def _sum_up(self, queue: Queue, phases: Mapping[tuple[str, str], int], in_use: int) -> None:
        status = self._status(queue, phases, in_use)
        if status != queue.status:
            queue.status = status
            await self._store.set_status(queue)

    def _status(self, queue: Queue, phases: Mapping[tuple[str, str], int], in_use: int) -> QueueStatus:
        now_ms = self._clock.now_ms()
        status = queue.status.model_copy(deep=True)
        status.pending = phases.get((queue.name, "Pending"), 0)
        status.running = sum(phases.get((queue.name, phase), 0) for phase in PLACED)
        status.devices_in_use, status.observed_generation = in_use, queue.metadata.generation
        spent = self._spent.get(queue.name, {})
        due = status.used_ms is None or now_ms - status.used_ms >= WRITE_MS
        if due and (spent or status.used):
            status.used = [
                DeviceUse(
                    device_class=model,
                    day_seconds=round(use.day, 3),
                    week_seconds=round(use.week, 3),
                    month_seconds=round(use.month, 3),
                    decayed_seconds=round(use.decayed, 3),
                )
                for model, use in sorted(spent.items())
            ]
            status.used_ms = now_ms
        return status


def _is_aside(queue: Queue) -> bool:
    known = queue.status.condition(HANDLED)
    return known is not None and known.status == "False"


def held_devices(world: World) -> dict[str, dict[str, float]]:
    """Per queue and ``vendor/model`` the devices that are held, shares as parts of a device. Cohorts hold
    what their queues hold."""
    held: dict[str, dict[str, float]] = {}
    for workload in world.workloads.values():
        if holds_places(workload):
            for name in _above(workload.spec.queue, world):
                mine = held.setdefault(name, {})
                for assignment in held_by(workload):
                    for share in assignment.shares:
                        model = f"{share.vendor}/{share.model}"
                        mine[model] = mine.get(model, 0.0) + share.millis / WHOLE_MILLIS
    return held


def _above(queue: str, world: World) -> list[str]:
    """The queue and the cohorts that it is in."""
    names: list[str] = []
    name: str | None = queue
    while name and name not in names:
        names.append(name)
        name = world.queues[name].spec.parent if name in world.queues else None
    return names
