"""Prometheus metrics of the scheduler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from prometheus_client import Gauge, Histogram

from common.loop import in_turns
from common.resources.pool import WHOLE_MILLIS, Device
from scheduler.core.model.types import Policy
from scheduler.ports import NodeObservation
from scheduler.translate.kept_world import KeptWorld
from scheduler.translate.observed import Observed

K = TypeVar("K")
_Kind = tuple[str, str]

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


class Reporter:
    """Keeps the gauges as the world is; sets those only whose numbers have changed."""

    def __init__(self, world: KeptWorld) -> None:
        self._world = world
        self._changed = world.reader()
        self._phases: dict[tuple[str, str], int] = {}
        self._slots: dict[str, int] = {}
        self._devices: dict[str, tuple[Device, ...]] = {}
        self._on: dict[str, set[str]] = {}
        self._slots_of: dict[str, dict[_Kind, tuple[int, float]]] = {}
        for gauge in (WORKLOADS, QUEUE_DEVICES, DEVICES, HEALTHY, *_LOAD.values()):
            gauge.clear()

    async def report(self, observed: Observed, moved: Iterable[str]) -> None:
        """``moved``: nodes of which something has changed since the last time."""
        standings = self._world.standings
        for queue, phase in _differing(self._phases, standings.phases):
            _set(WORKLOADS, (queue, phase), standings.phases.get((queue, phase)))
        self._phases = dict(standings.phases)
        slots = {queue: standings.slots.get(queue, 0) for queue in {*self._world.queues, *standings.slots}}
        for queue in _differing(self._slots, slots):
            _set(QUEUE_DEVICES, (queue,), slots.get(queue))
        self._slots = slots
        async for name in in_turns({*moved, *self._touched()}):
            self._report_node(name, observed.nodes.get(name))

    def _touched(self) -> set[str]:
        """Nodes on which something has come or gone."""
        nodes: set[str] = set()
        for uid in self._changed.take_workloads():
            standing = self._world.standings.of(uid)
            now = set(standing.nodes) if standing is not None else set()
            nodes |= now | self._on.pop(uid, set())
            if now:
                self._on[uid] = now
        return nodes

    def _report_node(self, name: str, node: NodeObservation | None) -> None:
        devices = node.devices if node is not None and node.state == "Alive" else ()
        before = self._devices.pop(name, ())
        if before != devices:
            present = {(device.id, device.vendor, device.model) for device in devices}
            for device in before:
                if (device.id, device.vendor, device.model) not in present:
                    _drop_device(name, device)
            for device in devices:
                _report_device(name, device)
        if devices:
            self._devices[name] = devices
        self._count(name, devices)

    def _count(self, name: str, devices: Sequence[Device]) -> None:
        """The slots of a node, and how many of them are used, are parts of the sums over all."""
        used, mine = self._world.standings.devices, dict[_Kind, tuple[int, float]]()
        for device in devices:
            kind = str(device.vendor), device.model
            total, taken = mine.get(kind, (0, 0.0))
            mine[kind] = total + device.slots, taken + used.get(device.id, 0)
        before = self._slots_of.pop(name, {})
        for kind in {*before, *mine}:
            (old_total, old_taken), (total, taken) = before.get(kind, (0, 0.0)), mine.get(kind, (0, 0.0))
            DEVICES.labels(*kind, "total").inc(total - old_total)
            DEVICES.labels(*kind, "used").inc((taken - old_taken) / WHOLE_MILLIS)
        if mine:
            self._slots_of[name] = mine


def _differing(before: Mapping[K, int], now: Mapping[K, int]) -> list[K]:
    """Keys whose numbers are not the same."""
    if before == now:
        return []
    return [key for key in {**before, **now} if before.get(key) != now.get(key)]


def _set(gauge: Gauge, labels: tuple[str, ...], value: int | None) -> None:
    """None: there is nothing to be told any more."""
    if value is not None:
        gauge.labels(*labels).set(value)
        return
    with suppress(KeyError):
        gauge.remove(*labels)


def report_tides(policy: Policy) -> None:
    """Set the tides in force."""
    TIDE.clear()
    for tide in policy.tides:
        TIDE.labels(tide.device_class).set(tide.inference_millis / WHOLE_MILLIS)


def _report_device(node: str, device: Device) -> None:
    labels = (node, device.id, device.vendor, device.model)
    HEALTHY.labels(*labels).set(device.healthy)
    for name, gauge in _LOAD.items():
        _set(gauge, labels, getattr(device, name))


def _drop_device(node: str, device: Device) -> None:
    for gauge in (HEALTHY, *_LOAD.values()):
        _set(gauge, (node, device.id, device.vendor, device.model), None)
