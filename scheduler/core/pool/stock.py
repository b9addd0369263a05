"""What a pool has, by classes of devices that requests may tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log2
from typing import NamedTuple

from scheduler.core.model.types import Request
from scheduler.core.pool.filters import FILTERS, count_for, untolerated
from scheduler.core.pool.layout import Group, Layout

MAX_CLASSES = 16
"""Above that, devices are told apart less finely."""

ENDLESS = 1 << 62
"""CPU millis of a host whose CPU is not tracked."""

ClassKey = tuple[object, ...]


class Stock(NamedTuple):
    """Nodes of one layout, and how many there are."""

    layout: Layout
    nodes: int


class DeviceClass:
    """Devices that are taken for alike, and the CPU of their hosts; ``devices`` 0: hosts without any.
    ``seen``: the groups, each on a layout."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.seen: list[tuple[Group | None, Layout]] = []
        self._counts: dict[Request, list[tuple[int, int]]] = {}
        self.devices = 0
        self.cpu_millis = 0.0

    @property
    def model(self) -> str:
        """Empty where there are no devices."""
        group = self.seen[0][0]
        return group.model if group is not None else ""

    def count(self, request: Request, cpu_millis: int) -> int | None:
        """The devices that a rank takes here, if it needs so much host CPU; None where it cannot be."""
        found = self._counts.get(request)
        if found is None:
            found = self._counts[request] = [
                (layout.cpu_millis or ENDLESS, count)
                for group, layout in self.seen
                if (count := _count(group, layout, request)) is not None
            ]
        return min((count for cpu, count in found if cpu_millis <= cpu), default=None)


class Classes:
    """The classes of a pool. Vendors' CPUs that stand for accelerators are none. ``layouts``: of its
    nodes."""

    def __init__(self, stock: Sequence[Stock]) -> None:
        self.layouts = tuple(layout for layout, _ in stock)
        for key_of in _KEYS:
            self.all: list[DeviceClass] = []
            self._numbers: dict[ClassKey, int] = {}
            for layout, nodes in stock:
                self._add(layout, nodes, key_of)
            if len(self.all) <= MAX_CLASSES:
                break
        self._key_of = key_of

    def _add(self, layout: Layout, nodes: int, key_of: Callable[[Group, Layout], ClassKey]) -> None:
        groups = [group for group in layout.mended.groups if group.vendor != "cpu"]
        healthy = {_kind(group): group.devices for group in layout.groups}
        width = sum(group.devices for group in groups)
        for group in groups:
            one = self._class(key_of(group, layout))
            one.seen.append((group, layout))
            one.devices += nodes * healthy.get(_kind(group), 0)
            one.cpu_millis += nodes * layout.cpu_millis * group.devices / width
        if not groups:
            host = self._class(())
            host.seen.append((None, layout))
            host.cpu_millis += nodes * layout.cpu_millis

    def _class(self, key: ClassKey) -> DeviceClass:
        number = self._numbers.setdefault(key, len(self.all))
        if number == len(self.all):
            self.all.append(DeviceClass(number))
        return self.all[number]

    def of(self, group: Group, layout: Layout) -> DeviceClass | None:
        """The class of a group on a node of that layout; None for a CPU."""
        mended = next((one for one in layout.mended.groups if _kind(one) == _kind(group)), group)
        number = self._numbers.get(self._key_of(mended, layout))
        return None if number is None or group.vendor == "cpu" else self.all[number]


def _kind(group: Group) -> ClassKey:
    return group.key, group.slots, group.memory_mebibytes


def _by_node(group: Group, layout: Layout) -> ClassKey:
    """By what a node has of it, and by the CPU that there is for each device, in powers of two."""
    cpu = round(log2(layout.cpu_millis / group.devices)) if layout.cpu_millis else 0
    return *_by_labels(group, layout), group.devices, cpu


def _by_labels(group: Group, layout: Layout) -> ClassKey:
    return *_by_model(group, layout), group.memory_mebibytes, layout.labels, layout.taints


def _by_model(group: Group, layout: Layout) -> ClassKey:
    return group.key


_KEYS: tuple[Callable[[Group, Layout], ClassKey], ...] = (_by_node, _by_labels, _by_model)
"""From fine to coarse."""


def _count(group: Group | None, layout: Layout, request: Request) -> int | None:
    if not set(request.node_labels) <= set(layout.labels) or untolerated(layout.taints, request):
        return None
    if not takes_devices(request):
        return 0
    if group is None or not all(question.passes(group, request) for question in FILTERS):
        return None
    count = count_for(group, request)
    return count if count is not None and count <= group.devices else None


def takes_devices(request: Request) -> bool:
    """Whether a rank needs any."""
    return request.count > 0 or request.by_equivalence
