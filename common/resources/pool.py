"""Where: nodes with their devices, and queues."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from common.resources.meta import Model, Resource, Status

Vendor = Literal["nvidia", "ascend", "amd", "cambricon", "hygon", "mthreads", "metax", "cpu"]


class DeviceLink(Model):
    """A direct connection to another device of the same node."""

    peer: str = Field(description="Device.id of the other end")
    kind: Literal["NVLink", "HCCS", "XGMI", "SIO", "PCIe", "System"]
    lanes: int | None = Field(None, ge=0, description="bonded links, where the driver tells")
    bandwidth_gbytes_per_second: int | None = Field(None, ge=0)


class Device(Model):
    """One accelerator (or one CPU standing for one) as the node's agent observed it."""

    id: str = Field(description="unique in the pool, e.g. the vendor's UUID")
    index: int = Field(description="as the visible-device variable of the vendor counts")
    vendor: Vendor
    model: str
    memory_bytes: int
    slots: int = Field(
        1, ge=1, description="how many grants may share it; 1 for accelerators, cores for a CPU"
    )
    healthy: bool = True
    fault: str = ""
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
    """What people may say about a node."""

    cordoned: bool = False


class NodeStatus(Status):
    """Observed by the node's agent. ``ray_node_id`` changes when the node's Ray restarts."""

    ray_node_id: str = ""
    address: str = ""
    devices: list[Device] = Field(default_factory=list)
    probe_faults: dict[str, str] = Field(
        default_factory=dict, description="vendor -> why it shows no devices"
    )
    cpu_cores: int = 0
    memory_bytes: int = 0


class Node(Resource):
    PLURAL: ClassVar[str] = "nodes"
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["Node"] = "Node"
    spec: NodeSpec = Field(default_factory=NodeSpec)
    status: NodeStatus = Field(default_factory=NodeStatus)


class QueueSpec(Model):
    """Where workloads wait. ``max_devices`` limits what its workloads hold together; unset = no limit."""

    max_devices: int | None = Field(None, ge=0)
    default_priority: int = Field(0, ge=-1_000_000, le=1_000_000)


class QueueStatus(Status):
    pending: int = 0
    running: int = 0
    devices_in_use: int = 0


class Queue(Resource):
    PLURAL: ClassVar[str] = "queues"
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["Queue"] = "Queue"
    spec: QueueSpec = Field(default_factory=QueueSpec)
    status: QueueStatus = Field(default_factory=QueueStatus)


class DeviceRequest(Model):
    """What each replica of a role needs. Empty vendor and model lists mean any."""

    count: int = Field(1, ge=0, le=1024, description="devices per replica; all on one node")
    vendors: list[Vendor] = Field(default_factory=list)
    not_vendors: list[Vendor] = Field(default_factory=list)
    models: list[str] = Field(default_factory=list, description="compared without regard to case")
    not_models: list[str] = Field(default_factory=list)
    memory_bytes: int = Field(
        0, ge=0, description="least memory per device; on shared devices it is set aside"
    )
