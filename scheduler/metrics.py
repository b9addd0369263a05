"""Prometheus metrics of the scheduler."""

from __future__ import annotations

from prometheus_client import Gauge, Histogram

from scheduler.core.types import Snapshot
from scheduler.views import World, devices_in_use, holds_places

CYCLE_SECONDS = Histogram(
    "computility_scheduler_cycle_seconds",
    "Duration of one pass of the scheduler loop",
    buckets=(0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
WORKLOADS = Gauge("computility_scheduler_workloads", "Workloads by queue and phase", ["queue", "phase"])
QUEUE_DEVICES = Gauge("computility_scheduler_queue_devices", "Device slots held through a queue", ["queue"])
DEVICES = Gauge(
    "computility_scheduler_device_slots", "Device slots of nodes that answer", ["vendor", "model", "state"]
)


def report(world: World, snapshot: Snapshot) -> None:
    """Set all gauges from the world as it is."""
    WORKLOADS.clear()
    for workload in world.workloads.values():
        WORKLOADS.labels(workload.spec.queue, workload.status.phase).inc()
    QUEUE_DEVICES.clear()
    for queue in {*world.queues, *(w.spec.queue for w in world.workloads.values() if holds_places(w))}:
        QUEUE_DEVICES.labels(queue).set(devices_in_use(world, queue))
    DEVICES.clear()
    for node in snapshot.nodes:
        for device in node.devices if node.alive else ():
            DEVICES.labels(device.vendor, device.model, "total").inc(device.slots)
            DEVICES.labels(device.vendor, device.model, "used").inc(device.used_slots)
