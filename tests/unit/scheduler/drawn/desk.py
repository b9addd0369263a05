"""A store and a world with drawn workloads, and a journal that takes no status that shares anything."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from common.clock import VirtualClock
from common.errors import Conflict, InvalidInput, NotFound, Unavailable
from common.guard import Guard
from common.resources import Metadata, Node, Project, Workload
from common.resources.pool import Device, NodeStatus
from common.resources.workload import WorkloadStatus
from common.settings import SchedulerSettings, Settings
from common.store.memory import MemoryStore
from scheduler.aside import SchedulerGuard
from scheduler.journal import Journal
from scheduler.translate.kept_world import KeptWorld
from scheduler.translate.views import World
from tests.fixtures.drawing import Drawn
from tests.fixtures.past_the_gate import put
from tests.unit.scheduler.drawn.courses import Answers

ERRORS = (
    InvalidInput("odd"),
    RuntimeError("boom"),
    Unavailable("away"),
    Conflict("changed"),
    NotFound("gone"),
)


POOLS: dict[str, Any] = {
    "phase": (
        "Starting",
        "Running",
        "Ready",
        "Running",
        *(4 * ("Pending",)),
        "Restarting",
        "Succeeded",
        "Suspended",
    ),
    "independent": (False, False, True),
}


def parts_of(value: Any) -> Iterator[int]:
    """The identities of all that can be changed in place."""
    if isinstance(value, BaseModel):
        yield id(value)
        value = dict(value)
    elif isinstance(value, list | dict):
        yield id(value)
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts_of(part)


def assert_apart(status: BaseModel, before: BaseModel) -> None:
    """What is written shares nothing with what was read: else a write that is refused has changed it."""
    assert status is before or not {*parts_of(status)} & {*parts_of(before)}


class CarefulJournal(Journal):
    """One that takes no status that shares anything with the one that was read."""

    def write(self, workload: Workload, status: WorkloadStatus, world: World) -> None:
        assert_apart(status, workload.status)
        super().write(workload, status, world)


class Desk:
    """A store and a world with drawn workloads, nodes and projects, and who writes them."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn, self.rng, self.clock = drawn, drawn.rng, VirtualClock()
        self.store, self.world = MemoryStore(self.clock), KeptWorld()
        self.items = Guard("drawn", self.clock)
        self.journal = CarefulJournal(self.store, self.clock, self.items)
        self.guard = SchedulerGuard(self.journal, self.clock, self.items)
        self.settings = Settings(scheduler=SchedulerSettings(stop_grace_seconds=2.5))
        self.events, self._told = 0, dict[str, WorkloadStatus]()
        for name in "abc":
            devices = [drawn.of(Device, id=f"d{n}", slots=4, healthy=n < 2) for n in range(3)]
            status = NodeStatus(devices=devices)
            status.set_condition("Ready", name != "c", "AgentAnswers", now_ms=1, generation=1)
            self.world.nodes[name] = Node(metadata=Metadata(name=name), status=status)
        for name in "pq":
            self.world.projects[name] = drawn.of(Project, metadata=Metadata(name=name))
        for number in range(5):
            workload = drawn.of(Workload)
            metadata = Metadata(name=f"w{number}", project=drawn.rng.choice("pqr"), uid=f"uid-{number}")
            put(self.store, workload.model_copy(update={"metadata": metadata}))

    async def set_up(self) -> "Desk":
        self.world.workloads.update({one.metadata.uid: one for one in await self.store.list(Workload)})
        return self

    @property
    def workloads(self) -> list[Workload]:
        return list(self.world.workloads.values())

    async def write_as_another(self) -> None:
        """Another status of one of them, in the store alone."""
        mine = self.rng.choice(self.workloads)
        stored = await self.store.find(Workload, mine.name, mine.project)
        if stored is not None:
            await self.store.set_status(stored.model_copy(update={"status": self.drawn.of(Workload).status}))

    async def flushed(self) -> Answers:
        """What is written down now, and what of that fails."""
        yield [(one.name, fault) for one, fault in await self.journal.flush(self.world)]
        for one in sorted(await self.store.list(Workload), key=lambda one: one.name):
            if self._told.get(one.name) != one.status:
                yield one.name, one.status
            self._told[one.name] = one.status
        events = await self.store.events(limit=1000)
        yield [replace(event, id="") for event in events[self.events :]]
        self.events = len(events)
