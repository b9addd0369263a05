"""What devices there are for engines, and how many engines they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.model_shape import ModelShape

Role = Literal["serve", "prefill", "decode"]
LARGEST_ENGINE = 16
"""Devices of one engine at most; it lies on one node."""
Demand = tuple[int, int]
"""So many engines, of so many devices each."""


@dataclass(frozen=True)
class Supply:
    """The devices of one model. ``nodes``: how many each node has; ``prefill_nodes``, ``decode_nodes``: the
    same of further nodes, on which engines of the one role may be and none of the other. ``legal_counts``:
    sizes that its vendor allows on a node; empty = any. ``connector``: by which engines hand KV caches over;
    empty = they do not. ``microcredits_per_million_seconds`` is the price of device time; None = the price
    book has none.
    """

    figures: DeviceFigures
    vendor: str
    nodes: tuple[int, ...]
    legal_counts: tuple[int, ...] = ()
    connector: str = ""
    microcredits_per_million_seconds: int | None = None
    prefill_nodes: tuple[int, ...] = ()
    decode_nodes: tuple[int, ...] = ()

    @property
    def device_class(self) -> str:
        return self.figures.device_class

    @property
    def transfers(self) -> bool:
        """Whether its engines hand KV caches over."""
        return bool(self.connector)

    def fits(self, other: Supply) -> bool:
        """Whether engines on the one understand KV caches of the other: those of one vendor that speak by one
        connector."""
        return self.transfers and (self.vendor, self.connector) == (other.vendor, other.connector)

    @cached_property
    def sizes(self) -> Mapping[int, int]:
        """How many nodes there are of each size: few sizes, however many nodes."""
        return self._sizes["serve"]

    @cached_property
    def devices(self) -> int:
        return self.devices_for("serve")

    def sizes_for(self, role: Role) -> Mapping[int, int]:
        """Nodes of each size that engines of a role may be on. Those that do both may be on all."""
        return self._sizes[role]

    def devices_for(self, role: Role) -> int:
        return sum(size * nodes for size, nodes in self._sizes[role].items())

    def engines(self, layout: Layout, role: Role = "serve") -> int:
        """How many engines of this size fit, where there are no others."""
        return _room(self._sizes[role], layout.devices)

    def holds(self, prefill: Demand, decode: Demand) -> bool:
        """Whether there is room for the engines of both roles, no device of which is given twice. What only
        one of them may be on is filled first."""
        read, write = (
            (max(0, engines - _room(sizes, size)), size)
            for (engines, size), sizes in ((prefill, self._only[0]), (decode, self._only[1]))
        )
        return hold_both(self._shared, [demand for demand in (read, write) if demand[0]])

    @cached_property
    def _shared(self) -> Counter[int]:
        return Counter(self.nodes)

    @cached_property
    def _only(self) -> tuple[Counter[int], Counter[int]]:
        return Counter(self.prefill_nodes), Counter(self.decode_nodes)

    @cached_property
    def _sizes(self) -> Mapping[Role, Counter[int]]:
        read, write = self._only
        return {
            "serve": self._shared + read + write,
            "prefill": self._shared + read,
            "decode": self._shared + write,
        }


def _room(sizes: Mapping[int, int], devices: int) -> int:
    return sum(nodes * (size // devices) for size, nodes in sizes.items())


def layouts(supply: Supply, shape: ModelShape, role: Role = "serve") -> list[Layout]:
    """How an engine of the model can be spread over devices of one node, the smallest first.

    Heads have to come out even over tensor-parallel devices. Stages of a pipeline are for devices that speak
    over the host's bus: elsewhere sums over links cost less than what pipelines wait.
    """
    largest = min(LARGEST_ENGINE, max(supply.sizes_for(role), default=0))
    found = [
        Layout(tensor, stages)
        for tensor in _powers(largest)
        for stages in (_powers(largest // tensor) if supply.figures.over_host else [1])
        if shape.heads % tensor == 0 and stages <= shape.layers
    ]
    legal = [one for one in found if not supply.legal_counts or one.devices in supply.legal_counts]
    return sorted(legal, key=lambda one: (one.devices, one.pipeline))


def _powers(largest: int) -> list[int]:
    return [2**power for power in range(largest.bit_length())] if largest else []


def hold_both(nodes: Iterable[int] | Mapping[int, int], demands: Iterable[Demand]) -> bool:
    """Whether nodes hold so many engines of each size: ``demands`` are (engines, devices of each). ``nodes``:
    the size of each, or how many there are of each size."""
    free = Counter(nodes)
    for engines, size in sorted(demands, key=lambda demand: -demand[1]):
        left = engines
        for devices in sorted(free, reverse=True):
            each = devices // size
            if not left or not each:
                break
            full = min(free[devices], left // each)
            free[devices] -= full
            free[devices - each * size] += full
            left -= full * each
            if 0 < left < each and free[devices]:
                free[devices] -= 1
                free[devices - left * size] += 1
                left = 0
        if left:
            return False
    return True
