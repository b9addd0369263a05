"""Resources as the core sees them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common.resources import Node, Project, Queue, Workload
from common.resources.pool import DeviceRequest
from common.resources.workload import Grant, RestartPolicy, WorkloadRole
from common.store.port import Store
from scheduler.core.lifecycle import HOLDING, Restarts, State
from scheduler.core.types import DeviceView, NodeView, QueueView, Request, RoleView, Snapshot, WorkloadView

DEFAULT_QUEUE = "default"
"""A queue of this name is there even when nobody has applied one: without a limit."""


@dataclass
class World:
    """All resources that the scheduler reads, by name; workloads by uid."""

    nodes: dict[str, Node] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    projects: dict[str, Project] = field(default_factory=dict)
    workloads: dict[str, Workload] = field(default_factory=dict)


async def read_world(store: Store) -> World:
    """Read everything once."""
    return World(
        nodes={node.name: node for node in await store.list(Node)},
        queues={queue.name: queue for queue in await store.list(Queue)},
        projects={project.name: project for project in await store.list(Project)},
        workloads={workload.metadata.uid: workload for workload in await store.list(Workload)},
    )


def roles_digest(roles: Sequence[WorkloadRole]) -> str:
    """Changes when anything about the processes changes."""
    text = json.dumps([role.to_dict() for role in roles], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def restarts_view(policy: RestartPolicy) -> Restarts:
    return Restarts(policy.policy, policy.max_restarts, policy.backoff_seconds, policy.backoff_max_seconds)


def state_view(workload: Workload) -> State:
    status = workload.status
    return State(
        phase=status.phase,
        attempt=status.attempt,
        restarts=status.restarts,
        backoff_step=status.backoff_step,
        next_start_ms=status.next_start_ms,
        message=status.message,
    )


def request_view(request: DeviceRequest) -> Request:
    return Request(
        count=request.count,
        vendors=tuple(request.vendors),
        not_vendors=tuple(request.not_vendors),
        models=tuple(request.models),
        not_models=tuple(request.not_models),
        memory_bytes=request.memory_bytes,
    )


def workload_view(workload: Workload, world: World) -> WorkloadView:
    queue, project = world.queues.get(workload.spec.queue), world.projects.get(workload.project or "")
    priority = workload.spec.priority
    if priority is None:
        priority = queue.spec.default_priority if queue else 0
    return WorkloadView(
        uid=workload.metadata.uid,
        project=workload.project or "",
        name=workload.name,
        queue=workload.spec.queue,
        priority=priority,
        created_ms=workload.metadata.created_ms,
        roles=tuple(RoleView(r.name, r.replicas, request_view(r.devices)) for r in workload.spec.roles),
        allowed_queues=tuple(project.spec.queues) if project else (),
    )


def holds_places(workload: Workload) -> bool:
    """Whether its placement keeps devices from others."""
    return workload.status.phase in HOLDING


def held_grants(world: World) -> list[Grant]:
    """All grants of placed workloads."""
    return [
        grant
        for workload in world.workloads.values()
        if holds_places(workload)
        for rank in workload.status.ranks
        for grant in rank.grants
    ]


def devices_in_use(world: World, queue: str) -> int:
    """Slots that the queue's placed workloads hold."""
    return sum(
        len(rank.grants)
        for workload in world.workloads.values()
        if workload.spec.queue == queue and holds_places(workload)
        for rank in workload.status.ranks
    )


def node_view(node: Node, slots: Mapping[str, int], memory: Mapping[str, int]) -> NodeView:
    devices = tuple(
        DeviceView(
            id=device.id,
            index=device.index,
            vendor=device.vendor,
            model=device.model,
            memory_bytes=device.memory_bytes,
            slots=device.slots,
            healthy=device.healthy,
            fault=device.fault,
            used_slots=slots.get(device.id, 0),
            used_memory_bytes=memory.get(device.id, 0),
        )
        for device in node.status.devices
    )
    return NodeView(node.name, devices, node.spec.cordoned, alive=node.status.is_true("Ready"))


def is_due(workload: Workload, now_ms: int) -> bool:
    """Whether it waits for a place now."""
    status = workload.status
    due = status.next_start_ms is None or status.next_start_ms <= now_ms
    return status.phase == "Pending" and not workload.spec.suspend and due


def take_snapshot(world: World, pending: Iterable[Workload], lingering: Sequence[Grant] = ()) -> Snapshot:
    """What a cycle looks at. ``lingering``: grants of processes that still stop although no workload holds
    them."""
    slots: dict[str, int] = {}
    memory: dict[str, int] = {}
    for grant in (*held_grants(world), *lingering):
        slots[grant.device] = slots.get(grant.device, 0) + 1
        memory[grant.device] = memory.get(grant.device, 0) + grant.memory_bytes
    limits = {name: queue.spec.max_devices for name, queue in world.queues.items()}
    limits.setdefault(DEFAULT_QUEUE, None)
    return Snapshot(
        nodes=tuple(node_view(node, slots, memory) for node in world.nodes.values()),
        queues=tuple(QueueView(name, limit, devices_in_use(world, name)) for name, limit in limits.items()),
        pending=tuple(workload_view(workload, world) for workload in pending),
    )
