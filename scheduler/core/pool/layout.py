"""What a node has, leaving aside what runs on it. Equal nodes share one layout, so that most questions are
asked once per kind of node and not once per node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scheduler.core.model.catalogue import Catalogue, DeviceSpec
from scheduler.core.model.types import DeviceView, Labels, NodeView

MIB = 1 << 20
MEMORY_BITS = 24
MEMORY_MASK = (1 << MEMORY_BITS) - 1

ModelKey = tuple[str, str]
"""(vendor, model)."""


def pack(millis: int, mebibytes: int) -> int:
    """Millis and memory of a device in one number that can be added and compared."""
    return (millis << MEMORY_BITS) | mebibytes


@dataclass(frozen=True)
class Group:
    """Healthy devices of one kind on a node. ``islands``: how many there are in each set that is linked at
    full speed; where none is linked to another (not ``linked``) they count as one set. ``ring``: how many the
    largest set has by its make, broken ones counted. ``capacity`` of each device is packed."""

    vendor: str
    model: str
    slots: int
    memory_mebibytes: int
    islands: tuple[int, ...]
    spec: DeviceSpec
    ring: int
    linked: bool = True

    def __hash__(self) -> int:
        return hash((self.vendor, self.model, self.slots, self.memory_mebibytes, self.islands))

    @property
    def key(self) -> ModelKey:
        return self.vendor, self.model

    @property
    def capacity(self) -> int:
        return pack(self.slots * 1000, self.memory_mebibytes)

    @property
    def devices(self) -> int:
        return sum(self.islands)

    @property
    def shared(self) -> bool:
        """Whether a device is made for several grants (a CPU)."""
        return self.slots > 1


@dataclass(frozen=True)
class Layout:
    """A kind of node. ``broken``: devices that are there and unhealthy. ``labels``: those that requests ask
    about; ``taints``: who does not tolerate them is refused."""

    groups: tuple[Group, ...]
    broken: tuple[Group, ...]
    cpu_millis: int
    host_mebibytes: int
    labels: Labels
    taints: Labels = ()

    @property
    def mended(self) -> Layout:
        """As if every device were healthy."""
        merged = {(g.key, g.slots, g.memory_mebibytes): g for g in self.groups}
        for group in self.broken:
            kind = (group.key, group.slots, group.memory_mebibytes)
            known = merged.get(kind)
            islands = _heal(known.islands, group.islands) if known else group.islands
            merged[kind] = Group(
                group.vendor,
                group.model,
                group.slots,
                group.memory_mebibytes,
                islands,
                group.spec,
                (known or group).ring,
                (known or group).linked,
            )
        ordered = tuple(merged[kind] for kind in sorted(merged))
        return Layout(ordered, (), self.cpu_millis, self.host_mebibytes, self.labels, self.taints)


def _heal(healthy: tuple[int, ...], broken: tuple[int, ...]) -> tuple[int, ...]:
    """Broken devices go back to the smallest islands."""
    islands = sorted(healthy)
    islands[0] += sum(broken)
    return tuple(islands)


def layout_of(
    node: NodeView, catalogue: Catalogue, label_keys: Iterable[str]
) -> tuple[Layout, list[list[list[int]]]]:
    """The node's layout, and for each group and island the positions of its devices in ``node.devices``."""
    healthy = [p for p, device in enumerate(node.devices) if device.healthy]
    broken = [p for p, device in enumerate(node.devices) if not device.healthy]
    groups, positions = _groups(node.devices, healthy, catalogue)
    wanted = set(label_keys)
    return (
        Layout(
            groups,
            _groups(node.devices, broken, catalogue)[0],
            node.cpu_millis,
            node.host_memory_bytes // MIB,
            tuple(pair for pair in node.labels if pair[0] in wanted),
            node.taints,
        ),
        positions,
    )


_Kind = tuple[str, str, int, int]


def _kind(device: DeviceView) -> _Kind:
    return device.vendor, device.model, device.slots, device.memory_bytes // MIB


def _groups(
    devices: Sequence[DeviceView], positions: Sequence[int], catalogue: Catalogue
) -> tuple[tuple[Group, ...], list[list[list[int]]]]:
    """All devices of a kind tell what is linked, so that two which are left of two rings are no ring."""
    kinds: dict[_Kind, dict[int, list[int]]] = {}
    for position in sorted(positions, key=lambda p: (devices[p].index, devices[p].id)):
        device = devices[position]
        kinds.setdefault(_kind(device), {}).setdefault(device.island, []).append(position)
    built: dict[_Kind, Counter[int]] = {kind: Counter() for kind in kinds}
    for device in devices:
        if (islands_of_kind := built.get(_kind(device))) is not None:
            islands_of_kind[device.island] += 1
    groups, where = [], []
    for (vendor, model, slots, mebibytes), islands in sorted(kinds.items()):
        spec = catalogue.find(vendor, model) or DeviceSpec(model, vendor)
        split = [islands[number] for number in sorted(islands)]
        made = built[vendor, model, slots, mebibytes]
        ring = max(made.values())
        linked = len(made) == 1 or ring > 1
        if not linked:
            split, ring = [[position for island in split for position in island]], made.total()
        sizes = tuple(len(island) for island in split)
        groups.append(Group(vendor, model, slots, mebibytes, sizes, spec, ring, linked))
        where.append(split)
    return tuple(groups), where
