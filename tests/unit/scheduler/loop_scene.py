"""The loop between a store and a fabric in memory, on a virtual clock."""

from typing import Any

from common.clock import VirtualClock
from common.resources import Metadata, Project, Workload
from common.resources.people import ProjectSpec
from common.resources.pool import DeviceRequest
from common.resources.workload import Readiness, WorkloadRole, WorkloadSpec
from common.settings import SchedulerSettings, Settings
from common.store.memory import MemoryStore
from common.vendors import Vendor
from scheduler.loop import SchedulerLoop
from scheduler.ports import Stops
from tests.fixtures.fabric import FakeFabric, RejectedLog, UsageLog, accelerator, cpu_device


class Scene:
    """A store, a fabric with two GPU nodes and a CPU node, and the loop between them."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.fabric = FakeFabric(
            self.clock,
            a=[accelerator("a", 0), accelerator("a", 1)],
            b=[accelerator("b", 0), accelerator("b", 1)],
            c=[cpu_device("c")],
        )
        self.usage, self.rejected = UsageLog(), RejectedLog()
        self.stops: Stops | None = None
        self.loop = self.new_loop()

    def new_loop(self, **options: Any) -> SchedulerLoop:
        """As after a restart of the control process, with these settings of the scheduler."""
        scheduler = SchedulerSettings(usage_interval_seconds=60, **options)
        settings = Settings(scheduler=scheduler)
        return SchedulerLoop(
            self.store,
            self.fabric,
            self.usage,
            settings,
            self.clock,
            rejected=self.rejected,
            stops=self.stops,
        )

    async def set_up(self) -> "Scene":
        await self.store.apply(Project(metadata=Metadata(name="p"), spec=ProjectSpec(tenant="acme")))
        return self

    async def submit(
        self,
        name: str = "w",
        *,
        count: int = 1,
        replicas: int = 1,
        min_replicas: int | None = None,
        readiness: bool = False,
        command: str = "600",
        vendor: Vendor = "nvidia",
        **spec: Any,
    ) -> str:
        role = WorkloadRole(
            name="main",
            replicas=replicas,
            min_replicas=min_replicas,
            command=["sleep", command],
            ports=["http"],
            devices=DeviceRequest(count=count, vendors=[vendor]),
            readiness=Readiness(port="http", start_timeout_seconds=100.0) if readiness else None,
        )
        labels = {"computility.io/model": "m", "computility.io/key": "key-1"}
        metadata = Metadata(name=name, project="p", labels=labels)
        applied = await self.store.apply(Workload(metadata=metadata, spec=WorkloadSpec(roles=[role], **spec)))
        return applied.resource.metadata.uid

    async def steps(self, count: int = 1, seconds: float = 0.0) -> None:
        for _ in range(count):
            self.clock.advance(seconds)
            await self.loop.step()

    async def get(self, name: str = "w") -> Workload:
        return await self.store.get(Workload, name, "p")

    async def reasons(self) -> list[str]:
        return [event.reason for event in await self.store.events(kind="Workload")]

    async def events(self, name: str = "w") -> list[str]:
        return [event.reason for event in await self.store.events(kind="Workload", name=name)]

    def gangs(self, uid: str) -> dict[int, set[str]]:
        """The nodes of each live attempt."""
        found: dict[int, set[str]] = {}
        for node, owner, attempt in self.fabric.alive():
            if owner == uid:
                found.setdefault(attempt, set()).add(node)
        return found

    def used_twice(self) -> list[str]:
        """Devices (but CPUs) that processes of more than one gang have at this moment."""
        users: dict[str, set[tuple[str, int]]] = {}
        for host in self.fabric.hosts.values():
            for gang in host.gangs.values():
                for rank in gang.ranks if gang.alive else ():
                    for grant in rank.grants if rank.state != "Exited" else ():
                        users.setdefault(grant.device, set()).add((gang.uid, gang.attempt))
        return [device for device, gangs in users.items() if len(gangs) > 1 and not device.startswith("cpu")]
