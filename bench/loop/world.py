"""The pool and the load of ``bench.loop``: nodes of ten models, single-device workloads on most of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.scheduler_world import GIB, MODELS, NODES_PER_RACK
from common.resources import Metadata, Node, Project, Queue, Workload
from common.resources.people import ProjectSpec
from common.resources.pool import Device, DeviceQuota, DeviceRequest, QueueSpec
from common.resources.workload import Grant, RankPlacement, WorkloadRole, WorkloadSpec, WorkloadStatus
from common.store.port import Put, Store
from scheduler.ports import Billing, GangRecord, NodeObservation, RankRecord
from scheduler.translate.views import roles_digest

T = TypeVar("T")
QUEUES = 200
PROJECT = "bench"
AT_A_TIME = 1000


@dataclass(frozen=True)
class Size:
    """How large a world is."""

    nodes: int
    devices: int
    running: int


def observations(size: Size) -> list[NodeObservation]:
    """Racks of sixteen nodes of one model."""
    return [_observation(number, size.devices) for number in range(size.nodes)]


def _observation(number: int, count: int) -> NodeObservation:
    vendor, model, gib = MODELS[number // NODES_PER_RACK % len(MODELS)]
    name = f"node-{number:05d}"
    devices = tuple(
        Device.model_validate(
            {"id": f"{name}/{i}", "index": i, "vendor": vendor, "model": model, "memory_bytes": gib * GIB}
        )
        for i in range(count)
    )
    return NodeObservation(
        name, name, "127.0.0.1", "Alive", devices, cpu_cores=16 * count, memory_bytes=256 * GIB * count
    )


async def apply_base(store: Store, nodes: Sequence[NodeObservation]) -> None:
    """A project, queues with an equal part each, and the nodes without a status."""
    part = sum(len(node.devices) for node in nodes) / QUEUES
    queues = [
        Queue(
            metadata=Metadata(name=f"queue-{number:03d}"),
            spec=QueueSpec(quotas=[DeviceQuota(device_class="*", nominal_devices=part * 2)]),
        )
        for number in range(QUEUES)
    ]
    project = Project(metadata=Metadata(name=PROJECT), spec=ProjectSpec(tenant="bench"))
    await store.write_all([Put(project), *(Put(queue) for queue in queues)])
    for part_of in _parts([Node(metadata=Metadata(name=node.name)) for node in nodes]):
        await store.write_all([Put(node) for node in part_of])


def workload(name: str, number: int, count: int = 1, models: Sequence[str] = ()) -> Workload:
    """One rank that asks for so many devices."""
    request = DeviceRequest(count=count, vendors=["nvidia", "ascend", "amd"], models=list(models))
    role = WorkloadRole(name="main", command=["sleep", "600"], devices=request)
    spec = WorkloadSpec(roles=[role], queue=f"queue-{number % QUEUES:03d}")
    return Workload(metadata=Metadata(name=name, project=PROJECT), spec=spec)


async def apply_running(
    store: Store, nodes: Sequence[NodeObservation], count: int, now_ms: int, first: str
) -> dict[str, list[GangRecord]]:
    """Workloads that run since some time on single devices: on all of those of the model ``first``, then on
    others. Returns their gangs by node."""
    places = [(node, device) for node in nodes for device in node.devices]
    places.sort(key=lambda place: (place[1].model != first, place[1].index, place[0].name))
    records: dict[str, list[GangRecord]] = {}
    for part in _parts(list(enumerate(places[:count]))):
        made = [_running(number, node, device, now_ms) for number, (node, device) in part]
        for applied in await store.write_all([Put(one) for one in made]):
            assert isinstance(applied.resource, Workload)
            rank = applied.resource.status.ranks[0]
            records.setdefault(rank.node, []).append(_record(applied.resource, rank))
    return records


def _running(number: int, node: NodeObservation, device: Device, now_ms: int) -> Workload:
    made = workload(f"run-{number:06d}", number)
    started_ms = now_ms - number * 7919 % 60_000
    grant = Grant(
        device=device.id,
        index=device.index,
        vendor=device.vendor,
        model=device.model,
        memory_bytes=device.memory_bytes,
        millis=1000,
    )
    rank = RankPlacement(
        role="main",
        replica=0,
        rank=0,
        node=node.name,
        grants=[grant],
        state="Running",
        address="127.0.0.1",
        pid=1,
        started_ms=started_ms,
    )
    made.status = WorkloadStatus(
        phase="Running",
        attempt=1,
        ranks=[rank],
        placed_digest=roles_digest(made.spec.roles),
        admitted_ms=started_ms,
    )
    return made


def _record(made: Workload, rank: RankPlacement) -> GangRecord:
    started_ms = rank.started_ms or 0
    billing = Billing("bench", PROJECT, made.name)
    process = RankRecord(0, "main", 0, "Running", "127.0.0.1", started_ms, {}, tuple(rank.grants), 1)
    return GangRecord(made.metadata.uid, 1, made.status.placed_digest, billing, (process,))


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), AT_A_TIME):
        yield items[start : start + AT_A_TIME]
