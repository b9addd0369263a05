"""Which devices of a node reach each other without crossing PCIe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

CLOSE_LINKS = frozenset({"NVLink", "HCCS", "XGMI", "SIO"})
"""Kinds of ``DeviceLink`` that make an island; PCIe and System do not."""


class IslandMember(NamedTuple):
    """One device as islands are told: ``links`` are (peer's id, kind), ``order`` is its index on the node and
    ``island_size`` that of its model's placement rule (0 = the model has no islands of its own)."""

    id: str
    order: int = 0
    links: tuple[tuple[str, str], ...] = ()
    island_size: int = 0


def islands_of(devices: Sequence[IslandMember]) -> list[int]:
    """The number of the island of each device, counted from 0 in the order of first appearance.

    Islands are the connected components of the close links. Where the driver shows none for a size of island,
    neighbours by ``order`` make islands of that size; a device without either is an island of its own.
    """
    roots = _components(devices)
    linked = _linked(devices)
    sizes_with_links = {device.island_size for device in devices if device.id in linked}
    keys: list[tuple[int, int]] = []
    for position, device in enumerate(devices):
        size = device.island_size
        if size and size not in sizes_with_links:
            keys.append((size, device.order // size))
        else:
            keys.append((0, roots[position]))
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def _linked(devices: Sequence[IslandMember]) -> set[str]:
    """Devices at either end of a close link inside the node."""
    present = {device.id for device in devices}
    ends: set[str] = set()
    for device in devices:
        for peer, kind in device.links:
            if kind in CLOSE_LINKS and peer in present and peer != device.id:
                ends |= {device.id, peer}
    return ends


def _components(devices: Sequence[IslandMember]) -> list[int]:
    """The first position of each device's connected component: union by smallest position."""
    parent = list(range(len(devices)))
    position = {device.id: i for i, device in enumerate(devices)}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, device in enumerate(devices):
        for peer, kind in device.links:
            if kind in CLOSE_LINKS and peer in position:
                low, high = sorted((root(i), root(position[peer])))
                parent[high] = low
    return [root(i) for i in range(len(devices))]
