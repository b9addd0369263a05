"""What is held now, by model, queue, kind and device, and its averages over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from scheduler.core.model.device_classes import CPU
from scheduler.core.model.types import WHOLE_MILLIS, NodeView, Placement, QueueView, WorkloadView
from scheduler.core.quota.fairness import decayed_use
from scheduler.sim.series import Recorder, Series, jain

PENDING, PENDING_DEVICES, STRANDED, FAIRNESS = "pending", "pending devices", "stranded", "fairness"
TRAINING, INFERENCE, OTHER = "training", "inference", "other"


def model_series(vendor: str, model: str) -> str:
    return f"model {vendor}/{model}"


def queue_series(name: str) -> str:
    return f"queue {name}"


class DeviceTimeBooks:
    """Counts devices (shares as parts of one) from ``start_ms`` on; averages are over ``spans`` parts of
    ``span``. CPUs are left out."""

    def __init__(
        self,
        nodes: Sequence[NodeView],
        queues: Sequence[QueueView],
        start_ms: int,
        span: tuple[int, int],
        spans: int,
    ) -> None:
        self._capacity = {
            (node.name, device.id): device.capacity_millis
            for node in nodes
            for device in node.devices
            if device.vendor != CPU
        }
        devices = [device for node in nodes for device in node.devices if device.vendor != CPU]
        self.models = sorted({(device.vendor, device.model) for device in devices})
        self.devices_of = {model: sum((d.vendor, d.model) == model for d in devices) for model in self.models}
        self.queues = {queue.name: queue for queue in queues}
        names = [PENDING, PENDING_DEVICES, STRANDED, FAIRNESS, TRAINING, INFERENCE, OTHER]
        names += [model_series(*model) for model in self.models]
        names += [queue_series(name) for name in self.queues]
        self._recorder = Recorder(names, *span, spans)
        self._used: dict[str, float] = dict.fromkeys(names, 0.0)
        self._millis: dict[tuple[str, str], int] = {}
        self._stranded = 0
        self._seconds: dict[str, float] = dict.fromkeys(self.queues, 0.0)
        self._at_ms = self._decayed_ms = start_ms
        self._recorder.put(FAIRNESS, 1.0)

    def advance(self, now_ms: int) -> None:
        """All that is booked held until now."""
        elapsed = (now_ms - self._at_ms) / 1000
        if elapsed > 0:
            for name in self._seconds:
                self._seconds[name] += self._used[queue_series(name)] * elapsed
            self._recorder.advance(now_ms)
            self._at_ms = now_ms

    def book(self, workload: WorkloadView, placement: Placement, sign: int = 1) -> None:
        """A placement comes, or goes (-1)."""
        changed: dict[str, float] = {}
        for assignment in placement:
            for share in assignment.shares:
                if share.vendor != CPU:
                    devices = sign * share.millis / WHOLE_MILLIS
                    for name in (model_series(share.vendor, share.model), workload.kind):
                        changed[name] = changed.get(name, 0.0) + devices
                    self._book_device((assignment.node, share.device), sign * share.millis)
        queue = queue_series(workload.queue)
        if queue in self._used:
            changed[queue] = changed.get(workload.kind, 0.0)
        for name, devices in changed.items():
            self._used[name] += devices
            self._recorder.put(name, self._used[name])
        self._recorder.put(STRANDED, self._stranded / WHOLE_MILLIS)

    def _book_device(self, device: tuple[str, str], millis: int) -> None:
        before = self._millis.get(device, 0)
        self._millis[device] = before + millis
        self._stranded += self._part_free(device, before + millis) - self._part_free(device, before)

    def _part_free(self, device: tuple[str, str], used: int) -> int:
        """What is left of a device that is partly taken: of no use to who needs whole ones."""
        return self._capacity[device] - used if 0 < used < self._capacity[device] else 0

    def waiting(self, pending: Iterable[tuple[WorkloadView, float]]) -> None:
        """Who waits now, with the devices that they ask for."""
        count, devices, hungry = 0, 0.0, set()
        for workload, asked in pending:
            count, devices = count + 1, devices + asked
            hungry.add(workload.queue)
        self._recorder.put(PENDING, count)
        self._recorder.put(PENDING_DEVICES, devices)
        known = [self.queues[name] for name in hungry if name in self.queues]
        self._recorder.put(
            FAIRNESS, jain(self._used[queue_series(q.name)] / q.weight for q in known if q.weight)
        )

    def views(self, now_ms: int) -> tuple[QueueView, ...]:
        """The queues as the scheduler sees them, with their decayed use."""
        elapsed = (now_ms - self._decayed_ms) / 1000
        if elapsed > 0:
            for name, queue in self.queues.items():
                if queue.decayed_use or self._seconds[name]:
                    use = decayed_use(queue.decayed_use, self._seconds[name], elapsed)
                    self.queues[name] = replace(queue, decayed_use=use)
                    self._seconds[name] = 0.0
            self._decayed_ms = now_ms
        return tuple(self.queues.values())

    def used(self, name: str) -> float:
        """What is held now under this name of a series."""
        return self._used[name]

    def series(self) -> Series:
        return self._recorder.series()
