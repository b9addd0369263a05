"""What the scheduler looks at and what it decides, as plain frozen values.

Capacity is counted in thousandths of a device (millis): a whole accelerator is 1000, a CPU 1000 per core
slot, a fraction of an accelerator less than 1000.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal, NamedTuple

from scheduler.core.model.catalogue import DeviceSpec
from scheduler.core.model.rules import QueueRules

WHOLE_MILLIS = 1000
"""One whole device (one slot of a CPU)."""

Labels = tuple[tuple[str, str], ...]
"""Sorted key-value pairs."""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device as such, without what runs on it. ``island``: devices of one node with the same number are
    linked at full speed (NVLink, HCCS ring, XGMI)."""

    id: str
    index: int
    vendor: str
    model: str
    memory_bytes: int
    slots: int = 1
    healthy: bool = True
    fault: str = ""
    island: int = 0
    numa: int = 0

    @property
    def capacity_millis(self) -> int:
        return self.slots * WHOLE_MILLIS


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node with its devices. ``alive``: its agent answers. ``draining``: why it is cordoned. ``taints``:
    who does not tolerate all of them is refused. ``cached``: names of models and datasets on its disk. Host
    CPU and memory of 0 are not tracked."""

    name: str
    devices: tuple[DeviceView, ...] = ()
    cordoned: bool = False
    alive: bool = True
    labels: Labels = ()
    taints: Labels = ()
    cached: frozenset[str] = frozenset()
    cpu_millis: int = 0
    host_memory_bytes: int = 0
    flapping_until_ms: int = 0
    draining: bool = False

    def label(self, key: str) -> str:
        """The value of a label; empty where it is not set."""
        return next((value for name, value in self.labels if name == key), "")


@dataclass(frozen=True, slots=True)
class Request:
    """What each rank needs on one node. Empty vendor and model lists mean any; all its devices are of one
    model.

    ``share_millis``: of each device, 1000 = whole; with less, ``count`` is 1. ``memory_bytes``: least memory
    per device (for a share or on a CPU: set aside). ``total_tflops``/``total_memory_bytes``: instead of
    ``count``, the least number of devices that reaches them, where the workload can shard (``dtype`` says
    which TFLOPS). ``tolerates``: taints of nodes that do not keep it away; an empty value stands for any, the
    key ``*`` for any taint.
    """

    count: int = 1
    vendors: tuple[str, ...] = ()
    not_vendors: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    not_models: tuple[str, ...] = ()
    memory_bytes: int = 0
    share_millis: int = WHOLE_MILLIS
    tflops: float = 0.0
    dtype: str = "bf16"
    capabilities: tuple[str, ...] = ()
    total_tflops: float = 0.0
    total_memory_bytes: int = 0
    max_count: int = 0
    cpu_millis: int = 0
    host_memory_bytes: int = 0
    node_labels: Labels = ()
    tolerates: Labels = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values = tuple(getattr(self, item.name) for item in fields(self) if item.compare)
        object.__setattr__(self, "_hash", hash(values))

    def __hash__(self) -> int:
        """Worked out once: requests are asked for by value all the time."""
        return self._hash

    @property
    def by_equivalence(self) -> bool:
        """Whether the number of devices follows from the totals."""
        return self.total_tflops > 0 or self.total_memory_bytes > 0


@dataclass(frozen=True, slots=True)
class RoleView:
    """Identical ranks of a workload. Elastic between ``min_replicas`` and ``replicas`` where the first is
    set."""

    name: str
    replicas: int
    request: Request
    min_replicas: int | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values = (self.name, self.replicas, self.request, self.min_replicas)
        object.__setattr__(self, "_hash", hash(values))

    def __hash__(self) -> int:
        """Worked out once, as that of the request."""
        return self._hash

    @property
    def least(self) -> int:
        return self.replicas if self.min_replicas is None else min(self.min_replicas, self.replicas)


@dataclass(frozen=True, slots=True)
class Affinity:
    """Where a workload wants to be. ``data``: prefers nodes that have these cached. ``near``/``apart``:
    labels of other workloads whose nodes it prefers / must not share; ``beside``: labels of which each must
    be that of a workload on its node. ``slice_same``: label key that so many ranks of a role, one after the
    other (``slice_size``), must share; other slices may be elsewhere. ``same``: label key of nodes (rack,
    zone) that all ranks must share; ``spread``: label key over which its ranks should be spread."""

    data: tuple[str, ...] = ()
    near: Labels = ()
    apart: Labels = ()
    same: str = ""
    spread: str = ""
    beside: Labels = ()
    slice_same: str = ""
    slice_size: int = 0
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        wishes = (self.data, self.near, self.apart, self.same, self.spread, self.beside)
        values = (*wishes, self.slice_same, self.slice_size)
        object.__setattr__(self, "_hash", hash(values))

    def __hash__(self) -> int:
        """Worked out once, as that of requests."""
        return self._hash


class Share(NamedTuple):
    """A part of one device, given to a rank."""

    device: str
    index: int  # type: ignore[assignment]
    vendor: str
    model: str
    memory_bytes: int
    millis: int = WHOLE_MILLIS


class Assignment(NamedTuple):
    """Where one rank goes."""

    role: str
    replica: int
    rank: int
    node: str
    shares: tuple[Share, ...]
    cpu_millis: int = 0
    host_memory_bytes: int = 0


Placement = tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """A workload that waits or runs. ``allowed_queues``: those its project may use; empty = all.

    ``expected_seconds``: how long it will run once started (a stated limit or a forecast); None = without
    end. ``deadline_ms``: when it must have started (SLA). ``kind``: training gives way to inference in
    the tide. ``nominated``: places that an earlier cycle cleared for it while it waits; they are its own
    until it starts or gives up.
    """

    uid: str
    project: str
    name: str
    queue: str
    priority: int
    created_ms: int
    roles: tuple[RoleView, ...]
    allowed_queues: tuple[str, ...] = ()
    labels: Labels = ()
    affinity: Affinity = Affinity()
    preemptible: bool = True
    movable: bool = False
    expected_seconds: int | None = None
    deadline_ms: int | None = None
    kind: Literal["training", "inference", "other"] = "other"
    grace_seconds: int = 10
    nominated: Placement = ()


@dataclass(frozen=True, slots=True)
class RunningView:
    """A workload that holds places. ``leaving``: it is told to give them up (grace period); its capacity
    comes free at ``ends_ms``. ``resized_ms``: when its ranks last became more or fewer (0 = never)."""

    workload: WorkloadView
    placement: Placement
    started_ms: int
    leaving: bool = False
    ends_ms: int | None = None
    resized_ms: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """What a queue (or cohort) has of a class of devices, in millis.

    ``device_class``: ``*`` (all accelerators), a vendor, or ``vendor/model``. ``nominal`` is its own;
    ``borrowing`` limits what it may use beyond it of its cohort's unused (None = no limit); ``lending``
    limits how much of its unused nominal others may borrow (None = all).
    """

    device_class: str = "*"
    nominal_millis: int = 0
    borrowing_millis: int | None = None
    lending_millis: int | None = None


@dataclass(frozen=True, slots=True)
class PeriodBudget:
    """Device time per period of a class; when it is spent, nothing more is admitted (what runs goes on)."""

    device_class: str
    limit_device_seconds: int
    spent_device_seconds: int
    renews_ms: int


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue or, with children, a cohort. ``parent``: the cohort that it borrows in. Without quotas it is
    only limited by ``max_devices`` (None = no limit). ``decayed_use``: device-seconds used lately,
    decayed."""

    name: str
    max_devices: int | None = None
    parent: str = ""
    weight: int = 1
    quotas: tuple[Quota, ...] = ()
    budgets: tuple[PeriodBudget, ...] = ()
    decayed_use: float = 0.0
    is_cohort: bool = False
    rules: QueueRules = field(default_factory=QueueRules)


@dataclass(frozen=True, slots=True)
class Tide:
    """Now, so many millis of the class are for inference; training may use the rest. From calendars or
    load."""

    device_class: str
    inference_millis: int


@dataclass(frozen=True, slots=True)
class Policy:
    """How decisions are made.

    ``weights``: how much each scorer counts (see ``scoring.SCORERS``). ``min_run_seconds``: how long a
    workload runs before its places are taken back for one that is not more important, where its queue says
    nothing else. ``resize_seconds``: how long an elastic workload keeps its ranks before it gets more.
    ``reserve``: for how many blocked heads capacity is held. ``claims``: for so many workloads a cycle takes
    places back from others; more wait for the next. ``max_delay_seconds``: so long a share waits on a nearly
    full pool rather than leave a rest that hardly anybody wants (see ``backfill.delay``). ``topology``:
    node label keys from the closest to the widest domain.
    """

    weights: tuple[tuple[str, float], ...] = (
        ("accelerator", 8.0),
        ("heterogeneity", 2.0),
        ("scarcity", 4.0),
        ("fragmentation", 4.0),
        ("packing", 0.0),
        ("topology", 1.0),
        ("energy", 0.25),
        ("price", 0.25),
    )
    data_weight: float = 2.0
    near_weight: float = 2.0
    min_run_seconds: int = 300
    resize_seconds: int = 120
    reserve: int = 1
    preempt: bool = True
    claims: int = 64
    defragment: bool = True
    max_moves: int = 8
    max_delay_seconds: int = 0
    topology: tuple[str, ...] = ("computility.io/island", "computility.io/rack", "computility.io/zone")
    tides: tuple[Tide, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a workload waits: a stable code, a sentence, and for how many nodes it holds (0 = not about
    nodes)."""

    code: str
    message: str
    nodes: int = 0


class Admit(NamedTuple):
    """Start the whole gang there."""

    uid: str
    placement: Placement


@dataclass(frozen=True, slots=True)
class Preempt:
    """Take back the places of ``uid``, for ``beneficiary``; it starts again when there is room."""

    uid: str
    beneficiary: str
    message: str


@dataclass(frozen=True, slots=True)
class Resize:
    """An elastic workload gives up or gains ranks; ``placement`` is what it holds then."""

    uid: str
    placement: Placement
    message: str
    beneficiary: str = ""


@dataclass(frozen=True, slots=True)
class Migrate:
    """Move a running workload to ``placement``, because that helps ``beneficiary`` (empty = the pool)."""

    uid: str
    placement: Placement
    message: str
    beneficiary: str = ""


class Defer(NamedTuple):
    """Wait. ``reasons[0]`` is the dominant one; ``never`` = it cannot fit on this pool even when all else
    is gone. ``reserved_ms``: from then on capacity is held for it. ``nominated``: the places that others
    are leaving for it; whoever asks again tells the next cycle (``WorkloadView.nominated``).
    ``outbid_by``: who has taken over such places, or the quota for them, in this cycle."""

    uid: str
    reasons: tuple[Reason, ...]
    remedy: str
    never: bool = False
    position: int = 0
    reserved_ms: int | None = None
    nominated: Placement = ()
    outbid_by: str = ""


Decision = Admit | Preempt | Resize | Migrate | Defer

Specs = tuple[DeviceSpec, ...]
