"""What is on one node: how much of each device, of the host's CPU and memory is held."""

from __future__ import annotations

from scheduler.core.model.types import NodeView, Share
from scheduler.core.pool.layout import MEMORY_BITS, MEMORY_MASK, MIB, Layout, pack
from scheduler.core.pool.options import Option
from scheduler.core.pool.states import NodeState, Shape, States

Saved = tuple[tuple[int, ...], tuple[int, ...], int, int]


class NodeUsage:
    """``entries``: packed free capacity per device, never below zero; ``used``: packed, what is held of
    it; ``whole``: the share that a device is as a whole, by position, once it has been given."""

    __slots__ = (
        "capacity",
        "cpu_used_millis",
        "entries",
        "host_used_mebibytes",
        "layout",
        "position_of",
        "positions",
        "usable",
        "used",
        "view",
        "whole",
    )

    def __init__(self, view: NodeView, layout: Layout, positions: list[list[list[int]]]) -> None:
        self.view = view
        self.layout = layout
        self.positions = positions
        self.capacity = [pack(d.slots * 1000, d.memory_bytes // MIB) for d in view.devices]
        self.entries = list(self.capacity)
        self.used = [0] * len(self.capacity)
        self.whole: dict[int, Share] = {}
        self.position_of = {device.id: position for position, device in enumerate(view.devices)}
        self.cpu_used_millis = 0
        self.host_used_mebibytes = 0
        self.usable = view.alive and not view.cordoned and not view.flapping_until_ms

    def inherit(self, old: NodeUsage) -> None:
        """Take over what is on the node as it was known before."""
        for device, position in old.position_of.items():
            here = self.position_of.get(device)
            if here is not None:
                self.used[here] = old.used[position]
                self._refresh(here)
        self.cpu_used_millis, self.host_used_mebibytes = old.cpu_used_millis, old.host_used_mebibytes

    def saved(self) -> Saved:
        """For ``restore``."""
        return tuple(self.used), tuple(self.entries), self.cpu_used_millis, self.host_used_mebibytes

    def restore(self, saved: Saved) -> None:
        self.used, self.entries = list(saved[0]), list(saved[1])
        self.cpu_used_millis, self.host_used_mebibytes = saved[2], saved[3]

    def state(self, states: States) -> NodeState:
        """The state that the node is in."""
        entries = self.entries
        free = tuple(
            tuple(tuple(sorted([entries[p] for p in island])) for island in group) for group in self.positions
        )
        layout = self.layout
        cpu = max(0, layout.cpu_millis - self.cpu_used_millis)
        host = max(0, layout.host_mebibytes - self.host_used_mebibytes)
        return states.intern(layout, free, cpu, host)

    def take(self, shape: Shape, option: Option) -> tuple[Share, ...]:
        """Hold what the option says, lowest devices first."""
        shares: list[Share] = []
        demand = option.demand
        if demand is not None:
            islands, devices, used, entries = (
                self.positions[demand.group],
                self.view.devices,
                self.used,
                self.entries,
            )
            packed = demand.packed
            millis = packed >> MEMORY_BITS
            memory = shape.request.memory_bytes or (packed & MEMORY_MASK) * MIB
            for island, entry, grants in option.picks:
                position = self._position(islands[island], entry)
                used[position] += grants * packed
                entries[position] -= grants * packed
                share = self.whole.get(position) if demand.whole else None
                if share is None:
                    device = devices[position]
                    amount = device.memory_bytes if demand.whole else memory
                    share = Share(device.id, device.index, device.vendor, device.model, amount, millis)
                    if demand.whole:
                        self.whole[position] = share
                shares += [share] * grants
        self.cpu_used_millis += shape.cpu_millis
        self.host_used_mebibytes += shape.host_mebibytes
        return tuple(shares)

    def _position(self, island: list[int], entry: int) -> int:
        """Of the first device of an island with just so much free."""
        entries = self.entries
        for position in island:
            if entries[position] == entry:
                return position
        raise LookupError(f"node {self.view.name} has no device in that state")

    def book(self, share: Share, sign: int) -> None:
        """Hold (1) or give back (-1) a share. A device that is not there any more is passed over."""
        position = self.position_of.get(share.device)
        if position is None:
            return
        room = self.capacity[position] & MEMORY_MASK
        self.used[position] += sign * pack(share.millis, min(room, -(-share.memory_bytes // MIB)))
        self._refresh(position)

    def _refresh(self, position: int) -> None:
        capacity, used = self.capacity[position], self.used[position]
        millis = max(0, (capacity >> MEMORY_BITS) - (used >> MEMORY_BITS))
        self.entries[position] = pack(millis, max(0, (capacity & MEMORY_MASK) - (used & MEMORY_MASK)))
