"""What the scheduler looks at and what it decides, as plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DeviceView:
    """A device and what is held of it. A grant takes one slot; on shared devices also a part of the
    memory."""

    id: str
    index: int
    vendor: str
    model: str
    memory_bytes: int
    slots: int = 1
    healthy: bool = True
    fault: str = ""
    used_slots: int = 0
    used_memory_bytes: int = 0

    @property
    def free_slots(self) -> int:
        return max(0, self.slots - self.used_slots)

    @property
    def free_memory_bytes(self) -> int:
        return max(0, self.memory_bytes - self.used_memory_bytes)

    @property
    def shared(self) -> bool:
        """Whether several grants may be on it."""
        return self.slots > 1


@dataclass(frozen=True)
class NodeView:
    """A node with its devices. ``alive``: its agent answers."""

    name: str
    devices: tuple[DeviceView, ...] = ()
    cordoned: bool = False
    alive: bool = True


@dataclass(frozen=True)
class Request:
    """What each rank needs on one node. Empty vendor and model lists mean any; all its devices are of one
    model."""

    count: int = 1
    vendors: tuple[str, ...] = ()
    not_vendors: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    not_models: tuple[str, ...] = ()
    memory_bytes: int = 0


@dataclass(frozen=True)
class RoleView:
    """Identical ranks of a workload."""

    name: str
    replicas: int
    request: Request


@dataclass(frozen=True)
class WorkloadView:
    """A workload that waits. ``allowed_queues``: those its project may use; empty = all."""

    uid: str
    project: str
    name: str
    queue: str
    priority: int
    created_ms: int
    roles: tuple[RoleView, ...]
    allowed_queues: tuple[str, ...] = ()

    @property
    def device_count(self) -> int:
        """Devices (slots) that the whole gang holds."""
        return sum(role.replicas * role.request.count for role in self.roles)


@dataclass(frozen=True)
class QueueView:
    """A queue, its limit (None = none) and what its running workloads hold."""

    name: str
    max_devices: int | None = None
    devices_in_use: int = 0


@dataclass(frozen=True)
class Snapshot:
    """All that one cycle looks at."""

    nodes: tuple[NodeView, ...]
    queues: tuple[QueueView, ...]
    pending: tuple[WorkloadView, ...]


@dataclass(frozen=True)
class Policy:
    """How much each scorer counts (see ``scoring.SCORERS``)."""

    weights: tuple[tuple[str, float], ...] = (("accelerator", 4.0), ("packing", 2.0), ("memory_fit", 1.0))


@dataclass(frozen=True)
class Share:
    """One slot of one device, given to a rank."""

    device: str
    index: int
    vendor: str
    model: str
    memory_bytes: int


@dataclass(frozen=True)
class Assignment:
    """Where one rank goes."""

    role: str
    replica: int
    rank: int
    node: str
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class Reason:
    """Why a workload waits: a stable code, a sentence, and for how many nodes it holds (0 = not about
    nodes)."""

    code: str
    message: str
    nodes: int = 0


@dataclass(frozen=True)
class Admit:
    """Start the whole gang there."""

    uid: str
    placement: tuple[Assignment, ...]


@dataclass(frozen=True)
class Defer:
    """Wait. ``reasons[0]`` is the dominant one; ``never`` = it cannot fit on this pool even when all else
    is gone."""

    uid: str
    reasons: tuple[Reason, ...]
    remedy: str
    never: bool = False
    position: int = field(default=0)


Decision = Admit | Defer
