"""Queue statuses: who waits and runs through each, and the device time that it has used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from common.clock import Clock
from common.errors import NotFound
from common.guard import HANDLED, Fault, Guard, tell_handled
from common.resources import Queue
from common.resources.pool import WHOLE_MILLIS, DeviceUse, QueueStatus
from common.store.port import StatusWrite, Store
from scheduler.core.lifecycle.lifecycle import PLACED
from scheduler.core.quota.spending import Spent, spend
from scheduler.journal import write_all
from scheduler.translate.kept_world import KeptWorld
from scheduler.translate.standing import Standings
from scheduler.translate.views import World, spent_view

WRITE_MS = 60_000
"""How often device time alone is written. A control process that is killed loses so much at most, and charges
its own absence at what ran when it came back."""
SPENT_MS = 5000
"""How old the account that cycles go by may be."""


class QueueBook:
    """Keeps account of device time in memory, and writes the statuses of queues and cohorts."""

    def __init__(self, store: Store, clock: Clock, guard: Guard, world: KeptWorld) -> None:
        self._guard = guard
        self._store = store
        self._clock = clock
        self._spent: dict[str, dict[str, Spent]] = {}
        self._since_ms: dict[str, int] = {}
        self._at: tuple[int, set[str]] = 0, set()
        self._summed_ms = self._due_ms = 0
        self._changed = world.reader()
        self._open: set[str] = set()

    def spent(self, world: KeptWorld) -> dict[str, dict[str, Spent]]:
        """Per queue and model what has been used until now, counting what is held now since the last call;
        as it was ``SPENT_MS`` ago at most."""
        now_ms = self._clock.now_ms()
        known_ms, names = self._at
        if 0 <= now_ms - known_ms < SPENT_MS and names == world.queues.keys():
            return self._spent
        held = held_devices(world)
        self._at = now_ms, set(world.queues)
        for name, queue in world.queues.items():
            with self._guard.item("Queue", ("spent", name)) as tried:
                self._spend(queue, held.get(name, {}), now_ms)
            if not tried.worked:
                self._at = 0, set()
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

    async def sum_up(self, world: KeptWorld) -> None:
        """Write the status of each queue that has changed, or of which something has; of all where their
        device time was added up since the last time."""
        names = self._open | self._changed.take_queues()
        if self._summed_ms != self._at[0] or self._due_ms <= self._clock.now_ms():
            self._summed_ms, names = self._at[0], set(world.queues)
        self._open, staged = set(), list[Queue]()
        for queue in [world.queues[name] for name in sorted(names & world.queues.keys())]:
            aside = _is_aside(queue)
            with self._guard.item("Queue", ("sum up", queue.name)) as tried:
                status = self._status(queue, world.standings)
                if status is not None and status != queue.status:
                    staged.append(queue.model_copy(update={"status": status}))
            fault = tried.fault or self._guard.fault_of(("spent", queue.name)) or self._fault_of_view(queue)
            if fault is not None or aside:
                self._open.add(queue.name)
                await tell_handled(self._store, queue, fault, self._clock)
        if staged:
            await self._write(staged, world)
        if len(names) >= len(world.queues):
            self._due_ms = self._next_due_ms(world)

    def _next_due_ms(self, world: KeptWorld) -> int:
        """When the first of those queues of which anything was used is to be written again."""
        used = [one.status for one in world.queues.values() if one.status.used or self._spent.get(one.name)]
        written = [status.used_ms for status in used if status.used_ms is not None]
        return min(written, default=self._clock.now_ms()) + WRITE_MS

    async def _write(self, staged: Sequence[Queue], world: KeptWorld) -> None:
        for queue, result in zip(
            staged, await write_all(self._store, [StatusWrite(one) for one in staged]), strict=True
        ):
            if isinstance(result, Queue):
                world.queues[queue.name] = result
                continue
            self._open.add(queue.name)
            if isinstance(result, Exception) and not isinstance(result, NotFound):
                self._guard.failed("Queue", ("sum up", queue.name), 0, result)

    def _fault_of_view(self, queue: Queue) -> Fault | None:
        return self._guard.fault_of(("Queue", queue.name))

    def _status(self, queue: Queue, standings: Standings) -> QueueStatus | None:
        """The status as it should be; None where it is so."""
        old, name, now_ms = queue.status, queue.name, self._clock.now_ms()
        pending = standings.members[name, "Pending"]
        running = sum(standings.members[name, phase] for phase in PLACED)
        in_use, generation = standings.slots[name], queue.metadata.generation
        spent = self._spent.get(name, {})
        due = (old.used_ms is None or now_ms - old.used_ms >= WRITE_MS) and bool(spent or old.used)
        same = (old.pending, old.running, old.devices_in_use, old.observed_generation)
        if not due and same == (pending, running, in_use, generation):
            return None
        status = old.model_copy(deep=True)
        status.pending, status.running = pending, running
        status.devices_in_use, status.observed_generation = in_use, generation
        if due:
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
            status.used_ms = self._at[0] or now_ms
        return status


def _is_aside(queue: Queue) -> bool:
    known = queue.status.condition(HANDLED)
    return known is not None and known.status == "False"


def held_devices(world: KeptWorld) -> dict[str, dict[str, float]]:
    """Per queue and ``vendor/model`` the devices that are held, shares as parts of a device. Cohorts hold
    what their queues hold."""
    millis: dict[str, Counter[str]] = {}
    for queue, models in world.standings.models.items():
        for name in _above(queue, world):
            millis.setdefault(name, Counter()).update(models)
    return {
        name: {model: held / WHOLE_MILLIS for model, held in models.items()}
        for name, models in millis.items()
    }


def _above(queue: str, world: World) -> list[str]:
    """The queue and the cohorts that it is in."""
    names: list[str] = []
    name: str | None = queue
    while name and name not in names:
        names.append(name)
        name = world.queues[name].spec.parent if name in world.queues else None
    return names
