"""Where: nodes with their devices, and queues."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from common.resources.fields import (
    DeviceModel,
    LabelKey,
    Labels,
    LabelValue,
    Message,
    Name,
    Number,
    Priority,
    SeenName,
    Whole,
    Word,
)
from common.resources.meta import Model, Resource, Status
from common.vendors import VENDORS, Vendor
from common.vocabulary import MAX_LIST, MAX_SECONDS, SERVED_NAME_CHARACTERS, TEXT_PATTERN

WHOLE_MILLIS = 1000
"""A whole device (one slot of a CPU), as shares of devices are counted."""


def _check_device_class(value: str) -> str:
    vendor, slash, model = value.partition("/")
    if value == "*" or (vendor in VENDORS and (model or not slash)):
        return value
    known = ", ".join(VENDORS)
    raise ValueError(f"must be '*', a vendor ({known}) or vendor/model")


DeviceClass = Annotated[
    str,
    StringConstraints(max_length=SERVED_NAME_CHARACTERS, pattern=f"^{TEXT_PATTERN}$"),
    AfterValidator(_check_device_class),
]
"""``*`` (all accelerators), a vendor, or ``vendor/model``."""


class DeviceLink(Model):
    """A direct connection to another device of the same node."""

    peer: str = Field(description="Device.id of the other end")
    kind: Literal["NVLink", "HCCS", "XGMI", "SIO", "PCIe", "System"]
    lanes: int | None = Field(None, ge=0, description="bonded links, where the driver tells")
    bandwidth_gbytes_per_second: int | None = Field(None, ge=0)


LOAD = frozenset(("memory_used_bytes", "utilisation_percent", "temperature_celsius", "power_watts"))
"""What of a device changes all the time."""


class Device(Model):
    """One accelerator (or one CPU standing for one) as the node's agent observed it."""

    id: str = Field(description="unique in the pool, e.g. the vendor's UUID")
    index: int = Field(description="as the visible-device variable of the vendor counts")
    vendor: Vendor
    model: SeenName
    memory_bytes: int
    slots: int = Field(
        1, ge=1, description="how many grants may share it; 1 for accelerators, cores for a CPU"
    )
    healthy: bool = True
    fault: Message = ""
    numa: int | None = Field(None, description="NUMA node of the host")
    bus_id: str = ""
    links: list[DeviceLink] = Field(default_factory=list)
    tflops: dict[str, float] = Field(
        default_factory=dict, description="dense, per dtype; empty = as the device catalogue says"
    )
    memory_used_bytes: int | None = None
    utilisation_percent: int | None = None
    temperature_celsius: int | None = None
    power_watts: int | None = None


class NodeSpec(Model):
    """What people may say about a node. ``labels`` win over those of Ray and of the agent."""

    cordoned: bool = Field(False, description="nothing new is placed on it")
    drain: bool = Field(False, description="cordoned, and what runs on it moves to other nodes")
    labels: Labels = Field(default_factory=dict)
    taints: Labels = Field(
        default_factory=dict, description="nothing new is placed on it that does not tolerate all of them"
    )


class Toleration(Model):
    """A taint of nodes that does not keep a workload away."""

    key: LabelKey
    value: LabelValue | None = Field(None, description="unset = whatever its value")


class NodeStatus(Status):
    """Observed by the node's agent. ``ray_node_id`` changes when the node's Ray restarts."""

    ray_node_id: str = ""
    address: str = ""
    devices: list[Device] = Field(default_factory=list)
    probe_faults: dict[str, Message] = Field(
        default_factory=dict, description="vendor -> why it shows no devices"
    )
    cpu_cores: int = 0
    memory_bytes: int = 0
    memory_available_bytes: int = Field(0, description="of the host, rounded to 1/32 of memoryBytes")
    cluster: str = Field("", description="name in ray.clusters; empty = the one of ray.address")
    labels: dict[str, str] = Field(default_factory=dict, description="as Ray and the agent tell them")
    cached: list[str] = Field(default_factory=list, description="names of models and datasets on its disk")
    drivers: dict[str, str] = Field(default_factory=dict, description="vendor -> driver version")
    flaps: int = Field(0, description="returns after a loss, until the node has stayed for an hour")
    returned_ms: int | None = Field(None, description="when it last came back")
    flapping_until_ms: int | None = Field(
        None, description="nothing new is placed before; doubles with each flap"
    )


class Node(Resource):
    PLURAL: ClassVar[str] = "nodes"
    DERIVED_NAMES: ClassVar[bool] = True
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["Node"] = "Node"
    spec: NodeSpec = Field(default_factory=NodeSpec)
    status: NodeStatus = Field(default_factory=NodeStatus)


class DeviceQuota(Model):
    """What a queue or cohort has of a class of devices."""

    device_class: DeviceClass = "*"
    nominal_devices: Number = Field(0, description="its own; in devices, fractions allowed")
    borrowing_devices: Number | None = Field(
        None, description="most that it may use beyond, of its cohort's unused; unset = no limit"
    )
    lending_devices: Number | None = Field(
        None, description="most of its unused nominal that others may borrow; unset = all"
    )


class DeviceBudget(Model):
    """Device time per calendar period (UTC; weeks begin on Monday). When it is spent nothing more is
    admitted; what runs goes on."""

    device_class: DeviceClass = "*"
    device_hours: Number
    period: Literal["day", "week", "month"] = "week"


class QueuePreemption(Model):
    """What a queue's workloads may take from others, and how long they are safe from them. What is unset
    holds as the cohort above says, in the end as said here."""

    within_queue: Literal["lowerPriority", "lowerOrNewerEqualPriority", "never"] | None = Field(
        None,
        description="from which workloads of its own queue one takes places: less important ones, newer ones "
        "of its priority too, or none; in the end lowerPriority",
    )
    reclaim_within_cohort: Literal["any", "lowerPriority", "never"] | None = Field(
        None,
        description="from whom it takes back borrowed devices: whatever their priority, from those of lower "
        "priority, or from nobody (they end by themselves); in the end any",
    )
    borrow_within_cohort: Literal["never", "lowerPriority"] | None = Field(
        None,
        description="who would have to borrow takes from less important workloads of queues that borrow too; "
        "in the end never",
    )
    borrow_max_priority: Priority | None = Field(
        None, description="only from workloads up to this priority; in the end any"
    )
    fair_sharing: bool | None = Field(
        None,
        description="who borrows takes from other borrowers until their weighted shares are equal; "
        "in the end true",
    )
    preempt_min_runtime_seconds: int | None = Field(
        None,
        ge=0,
        le=MAX_SECONDS,
        description="so long after its start no workload is stopped for a more important one; in the end 0",
    )
    reclaim_min_runtime_seconds: int | None = Field(
        None,
        ge=0,
        le=MAX_SECONDS,
        description="nor for a queue that takes back what is its due; in the end 0, and "
        "scheduler.policy.min_run_seconds for one of equal or lower priority, and to share fairly",
    )


class QueueSpec(Model):
    """Where workloads wait, or, as ``cohort``, what queues share. ``max_devices`` limits what its workloads
    hold together; unset = no limit. Without quotas of its own and of its parents that is its only limit."""

    max_devices: Whole | None = None
    default_priority: Priority = 0
    max_priority: Priority | None = Field(
        None,
        description="highest that others than platform-admins may ask for; unset = as their projects may",
    )
    parent: Name | None = Field(None, description="the cohort in which it borrows")
    cohort: bool = Field(False, description="has children and no workloads of its own")
    weight: int = Field(
        1,
        ge=0,
        le=1_000_000,
        description="of its fair share among its siblings; 0: after all that have a weight, with its nominal "
        "quota as safe as theirs",
    )
    quotas: list[DeviceQuota] = Field(default_factory=list, max_length=MAX_LIST)
    budgets: list[DeviceBudget] = Field(default_factory=list, max_length=MAX_LIST)
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=MAX_LIST, description="that all its workloads have"
    )
    preemption: QueuePreemption = Field(default_factory=QueuePreemption)
    queueing: Literal["bestEffort", "strict"] | None = Field(
        None,
        description="strict: nobody passes the first of the queue that finds no place; unset: as the cohort "
        "above says, in the end bestEffort",
    )

    @model_validator(mode="after")
    def _one_entry_per_class(self) -> QueueSpec:
        classes = [quota.device_class for quota in self.quotas]
        if len(set(classes)) != len(classes):
            raise ValueError(f"quotas: each deviceClass only once, not {', '.join(classes)}")
        budgets = [f"{budget.device_class} per {budget.period}" for budget in self.budgets]
        if len(set(budgets)) != len(budgets):
            raise ValueError(f"budgets: each deviceClass and period only once, not {', '.join(budgets)}")
        return self


class DeviceUse(Model):
    """Device-seconds that a queue has used of one model; a share counts as its part of a device."""

    device_class: str = Field(description="vendor/model")
    day_seconds: float = Field(0, ge=0, description="of the calendar day (UTC) of usedMs")
    week_seconds: float = Field(0, ge=0)
    month_seconds: float = Field(0, ge=0)
    decayed_seconds: float = Field(0, ge=0, description="older use counts less")


class OrderedQuota(Model):
    """Devices that its tenant has ordered for a queue, beside its quotas."""

    device_class: str = Field(description="vendor/model")
    devices_millis: int = Field(ge=0, description="thousandths of devices")


class QueueStatus(Status):
    """``used`` is as of ``used_ms``, written at most once a minute. ``ordered`` raises the quotas that its
    devices count in, as long as the orders hold."""

    pending: int = 0
    running: int = 0
    devices_in_use: int = 0
    used: list[DeviceUse] = Field(default_factory=list)
    used_ms: int | None = None
    ordered: list[OrderedQuota] = Field(default_factory=list)


class Queue(Resource):
    PLURAL: ClassVar[str] = "queues"
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["Queue"] = "Queue"
    spec: QueueSpec = Field(default_factory=QueueSpec)
    status: QueueStatus = Field(default_factory=QueueStatus)


class Equivalence(Model):
    """The least number of devices of one model on one node that reaches these totals: for workloads that can
    shard. One H100 or two A100 may do."""

    tflops: Number = Field(0, description="dense, in all; 0 = any")
    dtype: Word | None = Field(None, description="of the TFLOPS; unset = devices.dtype")
    memory_bytes: Whole = Field(0, description="in all; 0 = any")
    max_count: int = Field(0, ge=0, le=1024, description="most devices; 0 = as many as a node has")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Equivalence:
        if not self.tflops and not self.memory_bytes:
            raise ValueError("tflops or memoryBytes must be greater than 0")
        return self


class DeviceRequest(Model):
    """What each replica of a role needs. Empty vendor and model lists mean any."""

    count: int = Field(
        1, ge=0, le=1024, description="devices per replica; all on one node and of one model; CPU: slots"
    )
    vendors: list[Vendor] = Field(default_factory=list, max_length=MAX_LIST)
    not_vendors: list[Vendor] = Field(default_factory=list, max_length=MAX_LIST)
    models: list[DeviceModel] = Field(
        default_factory=list, max_length=MAX_LIST, description="compared without regard to case"
    )
    not_models: list[DeviceModel] = Field(default_factory=list, max_length=MAX_LIST)
    memory_bytes: Whole = Field(0, description="least memory per device; on shared devices it is set aside")
    share_millis: int = Field(
        WHOLE_MILLIS,
        ge=1,
        le=WHOLE_MILLIS,
        description="thousandths of each device (CPU: of each slot); less than 1000 only with count 1",
    )
    tflops: Number = Field(0, description="least dense TFLOPS per device; 0 = any")
    dtype: Word = Field("bf16", description="of tflops: as the device catalogue names them")
    capabilities: list[Word] = Field(
        default_factory=list, max_length=MAX_LIST, description="e.g. fp8, kv-transfer; all are needed"
    )
    equivalence: Equivalence | None = Field(None, description="instead of count")
    cpu_millis: Whole = Field(0, description="thousandths of a host core; 0 = not counted")
    host_memory_bytes: Whole = Field(0, description="of the host; 0 = not counted")
    node_labels: Labels = Field(default_factory=dict, description="that the node must have")

    @model_validator(mode="after")
    def _fits_together(self) -> DeviceRequest:
        if self.share_millis < WHOLE_MILLIS and self.count != 1:
            raise ValueError(f"shareMillis: a part of a device needs count 1, not {self.count}")
        if self.equivalence is None:
            return self
        if self.count != 1 or self.share_millis < WHOLE_MILLIS:
            raise ValueError("equivalence: says how many devices, so leave out count and shareMillis")
        if self.tflops and self.equivalence.dtype not in (None, self.dtype):
            raise ValueError(f"equivalence.dtype: must be devices.dtype ({self.dtype}) where tflops is set")
        return self
