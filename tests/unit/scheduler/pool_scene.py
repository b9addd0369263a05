"""A store with a pool in it, as the scheduler's loop leaves it; and what people are told about it."""

from typing import Any

from common.clock import VirtualClock
from common.resources import Metadata, Node, Project, Queue, Workload
from common.resources.meta import Owner
from common.resources.people import ProjectSpec
from common.resources.pool import Device, DeviceRequest, NodeSpec, NodeStatus, QueueSpec, QueueStatus
from common.resources.workload import (
    Grant,
    RankPlacement,
    RestartPolicy,
    WorkloadRole,
    WorkloadSpec,
    WorkloadStatus,
)
from common.settings import SchedulerSettings, Settings
from common.store.memory import MemoryStore
from scheduler.catalogue import load_catalogue
from scheduler.insight.answers import Explanation
from scheduler.insight.insight import Insight

GIB = 1024**3
MINUTE_MS = 60_000
CATALOGUE = load_catalogue()
START_MS = 1_700_000_000_000


def devices(
    node: str, count: int = 8, vendor: str = "nvidia", model: str = "H100", gib: int = 80, **more: Any
) -> list[Device]:
    return [
        Device(
            id=f"{node}/{i}",
            index=i,
            vendor=vendor,  # type: ignore[arg-type]
            model=model,
            memory_bytes=gib * GIB,
            **more,
        )
        for i in range(count)
    ]


class PoolScene:
    """Everything is said by name; time stands still unless the clock is moved."""

    def __init__(self, **options: Any) -> None:
        self.clock = VirtualClock(START_MS)
        self.store = MemoryStore(self.clock)
        self.settings = Settings(scheduler=SchedulerSettings(**options))
        self.insight = Insight(self.store, self.settings, self.clock, CATALOGUE)

    async def project(self, name: str = "p", *queues: str) -> None:
        spec = ProjectSpec(tenant="acme", queues=list(queues))
        await self.store.apply(Project(metadata=Metadata(name=name), spec=spec))

    async def node(
        self,
        name: str,
        found: list[Device],
        *,
        ready: bool = True,
        labels: dict[str, str] | None = None,
        flapping_until_ms: int | None = None,
        **spec: Any,
    ) -> None:
        made = Node(metadata=Metadata(name=name), spec=NodeSpec(labels=labels or {}, **spec))
        node = (await self.store.apply(made)).resource
        node.status = NodeStatus(devices=found, cpu_cores=0, flapping_until_ms=flapping_until_ms)
        node.status.set_condition("Ready", ready, "Alive" if ready else "Lost", now_ms=START_MS)
        await self.store.set_status(node)

    async def queue(self, name: str, status: QueueStatus | None = None, **spec: Any) -> None:
        queue = (await self.store.apply(Queue(metadata=Metadata(name=name), spec=QueueSpec(**spec)))).resource
        if status is not None:
            queue.status = status
            await self.store.set_status(queue)

    async def workload(
        self,
        name: str,
        *,
        project: str = "p",
        replicas: int = 1,
        min_replicas: int | None = None,
        labels: dict[str, str] | None = None,
        request: dict[str, Any] | None = None,
        status: WorkloadStatus | None = None,
        restart: RestartPolicy | None = None,
        owner: Owner | None = None,
        **spec: Any,
    ) -> Workload:
        role = WorkloadRole(
            name="main",
            replicas=replicas,
            min_replicas=min_replicas,
            command=["true"],
            devices=DeviceRequest(**(request or {})),
        )
        made = Workload(
            metadata=Metadata(name=name, project=project, labels=labels or {}, owner=owner),
            spec=WorkloadSpec(roles=[role], restart=restart or RestartPolicy(), **spec),
        )
        workload = (await self.store.apply(made)).resource
        if status is None:
            return workload
        workload.status = status
        return await self.store.set_status(workload)

    async def runs(
        self, name: str, node: str, *positions: int, status: dict[str, Any] | None = None, **more: Any
    ) -> Workload:
        """One rank that holds these devices of a node."""
        found = (await self.store.get(Node, node)).status.devices
        grants = [
            Grant(device=d.id, index=d.index, vendor=d.vendor, model=d.model, memory_bytes=d.memory_bytes)
            for d in (found[position] for position in positions)
        ]
        rank = RankPlacement(role="main", replica=0, rank=0, node=node, grants=grants, state="Running")
        fields = {"phase": "Running", "attempt": 1, "admitted_ms": START_MS, **(status or {})}
        more.setdefault("request", {"count": len(positions)})
        return await self.workload(name, status=WorkloadStatus(ranks=[rank], **fields), **more)

    async def explain(self, name: str, project: str = "p") -> Explanation:
        return await self.insight.explain(name, project)
