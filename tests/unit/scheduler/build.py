"""Short ways to say what tests of the scheduler's core are about."""

from scheduler.core.cycle import run_cycle
from scheduler.core.types import (
    Admit,
    Decision,
    Defer,
    DeviceView,
    NodeView,
    Policy,
    QueueView,
    Request,
    RoleView,
    Snapshot,
    WorkloadView,
)

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


def node(name: str, *devices: DeviceView, cordoned: bool = False, alive: bool = True) -> NodeView:
    """A node; accelerators get ids that are unique in the pool."""
    named = tuple(DeviceView(**{**device.__dict__, "id": f"{name}/{device.id}"}) for device in devices)
    return NodeView(name, named, cordoned, alive)


def role(replicas: int = 1, name: str = "main", **request: object) -> RoleView:
    return RoleView(name, replicas, Request(**request))  # type: ignore[arg-type]


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


def cycle(
    nodes: list[NodeView], *pending: WorkloadView, queues: list[QueueView] | None = None
) -> list[Decision]:
    snapshot = Snapshot(tuple(nodes), tuple(queues or [QueueView("default")]), pending)
    return run_cycle(snapshot, Policy(), NOW_MS)


def admitted(decisions: list[Decision]) -> list[str]:
    return [d.uid.removeprefix("uid-") for d in decisions if isinstance(d, Admit)]


def deferred(decision: Decision) -> Defer:
    assert isinstance(decision, Defer), decision
    return decision


def places(decision: Decision) -> list[str]:
    """The node of each rank."""
    assert isinstance(decision, Admit), decision
    return [assignment.node for assignment in decision.placement]
