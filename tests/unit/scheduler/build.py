"""Short ways to say what tests of the scheduler's core are about."""

from dataclasses import replace

from scheduler.core.cycle import run_cycle
from scheduler.core.model.types import (
    Admit,
    Assignment,
    Decision,
    Defer,
    DeviceView,
    NodeView,
    Policy,
    QueueView,
    Request,
    RoleView,
    RunningView,
    Share,
    WorkloadView,
)
from scheduler.core.placement.snapshot import take_snapshot

GIB = 1024**3
NOW_MS = 1_000_000


def gpu(index: int, vendor: str = "nvidia", model: str = "H100", gib: int = 80, **more: object) -> DeviceView:
    return DeviceView(
        id=f"{vendor}-{index}",
        index=index,
        vendor=vendor,
        model=model,
        memory_bytes=gib * GIB,
        **more,  # type: ignore[arg-type]
    )


def cpu(node: str = "n", slots: int = 4, gib: int = 16, **more: object) -> DeviceView:
    return DeviceView(
        id=f"cpu-{node}",
        index=0,
        vendor="cpu",
        model="cpu",
        memory_bytes=gib * GIB,
        slots=slots,
        **more,  # type: ignore[arg-type]
    )


def node(name: str, *devices: DeviceView, **more: object) -> NodeView:
    """A node; accelerators get ids that are unique in the pool."""
    named = tuple(replace(device, id=f"{name}/{device.id}") for device in devices)
    return NodeView(name, named, **more)  # type: ignore[arg-type]


def role(
    replicas: int = 1, name: str = "main", min_replicas: int | None = None, **request: object
) -> RoleView:
    return RoleView(name, replicas, Request(**request), min_replicas)  # type: ignore[arg-type]


def workload(
    name: str,
    *roles: RoleView,
    priority: int = 0,
    created_ms: int = 0,
    queue: str = "default",
    **more: object,
) -> WorkloadView:
    return WorkloadView(
        uid=f"uid-{name}",
        project="p",
        name=name,
        queue=queue,
        priority=priority,
        created_ms=created_ms,
        roles=roles or (role(),),
        **more,  # type: ignore[arg-type]
    )


def holding(name: str, at: NodeView, *positions: int, **more: object) -> RunningView:
    """A workload that runs as one rank on these devices of a node."""
    devices = [at.devices[position] for position in positions]
    shares = tuple(Share(d.id, d.index, d.vendor, d.model, d.memory_bytes) for d in devices)
    started_ms = more.pop("started_ms", 0)
    runs = workload(name, role(count=len(devices), vendors=(devices[0].vendor,)), **more)  # type: ignore[arg-type]
    return RunningView(runs, (Assignment("main", 0, 0, at.name, shares),), started_ms)  # type: ignore[arg-type]


def cycle(
    nodes: list[NodeView],
    *pending: WorkloadView,
    queues: list[QueueView] | None = None,
    running: list[RunningView] | None = None,
    policy: Policy | None = None,
    now_ms: int = NOW_MS,
) -> list[Decision]:
    snapshot = take_snapshot(nodes, queues or [QueueView("default")], pending, running or [])
    return run_cycle(snapshot, policy or Policy(), now_ms)


def admitted(decisions: list[Decision]) -> list[str]:
    return [d.uid.removeprefix("uid-") for d in decisions if isinstance(d, Admit)]


def deferred(decision: Decision) -> Defer:
    assert isinstance(decision, Defer), decision
    return decision


def places(decision: Decision) -> list[str]:
    """The node of each rank."""
    assert isinstance(decision, Admit), decision
    return [assignment.node for assignment in decision.placement]
