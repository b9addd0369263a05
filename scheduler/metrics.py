"""Prometheus metrics of the scheduler."""

from __future__ import annotations

from prometheus_client import Gauge, Histogram

from common.resources.pool import WHOLE_MILLIS, Device
from scheduler.core.model.types import Policy
from scheduler.translate.observed import Observed
from scheduler.translate.placements import held_by
from scheduler.translate.views import World, devices_in_use, holds_places

CYCLE_SECONDS = Histogram(
    "computility_scheduler_cycle_seconds",
    "Duration of one pass of the scheduler loop",
    buckets=(0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
WORKLOADS = Gauge("computility_scheduler_workloads", "Workloads by queue and phase", ["queue", "phase"])
QUEUE_DEVICES = Gauge("computility_scheduler_queue_devices", "Device slots held through a queue", ["queue"])
DEVICES = Gauge(
    "computility_scheduler_device_slots",
    "Device slots of nodes that answer; used: held, shares as parts",
    ["vendor", "model", "state"],
)
TIDE = Gauge("computility_scheduler_tide_devices", "Devices that are for inference now", ["device_class"])
_DEVICE = ["node", "device", "vendor", "model"]
HEALTHY = Gauge("computility_device_healthy", "1 where the device works", _DEVICE)
UTILISATION = Gauge("computility_device_utilisation_percent", "Load as the driver tells it", _DEVICE)
MEMORY_USED = Gauge("computility_device_memory_used_bytes", "Memory in use on the device", _DEVICE)
TEMPERATURE = Gauge("computility_device_temperature_celsius", "Temperature of the device", _DEVICE)
POWER = Gauge("computility_device_power_watts", "Power draw of the device", _DEVICE)
_LOAD = {
    "utilisation_percent": UTILISATION,
    "memory_used_bytes": MEMORY_USED,
    "temperature_celsius": TEMPERATURE,
    "power_watts": POWER,
}


def report(world: World, observed: Observed) -> None:
    """Set all gauges from the world as it is."""
    WORKLOADS.clear()
    for workload in world.workloads.values():
        WORKLOADS.labels(workload.spec.queue, workload.status.phase).inc()
    QUEUE_DEVICES.clear()
    slots = devices_in_use(world)
    for queue in {*world.queues, *slots}:
        QUEUE_DEVICES.labels(queue).set(slots.get(queue, 0))
    used = _used_slots(world)
    for gauge in (DEVICES, HEALTHY, *_LOAD.values()):
        gauge.clear()
    for node in observed.nodes.values():
        for device in node.devices if node.state == "Alive" else ():
            DEVICES.labels(device.vendor, device.model, "total").inc(device.slots)
            DEVICES.labels(device.vendor, device.model, "used").inc(used.get(device.id, 0.0))
            _report_device(node.name, device)


def report_tides(policy: Policy) -> None:
    """Set the tides in force."""
    TIDE.clear()
    for tide in policy.tides:
        TIDE.labels(tide.device_class).set(tide.inference_millis / WHOLE_MILLIS)


def _report_device(node: str, device: Device) -> None:
    labels = (node, device.id, device.vendor, device.model)
    HEALTHY.labels(*labels).set(device.healthy)
    for name, gauge in _LOAD.items():
        value = getattr(device, name)
        if value is not None:
            gauge.labels(*labels).set(value)


def _used_slots(world: World) -> dict[str, float]:
    used: dict[str, float] = {}
    for workload in world.workloads.values():
        if holds_places(workload):
            for assignment in held_by(workload):
                for share in assignment.shares:
                    used[share.device] = used.get(share.device, 0.0) + share.millis / WHOLE_MILLIS
    return used
