"""What devices there are for engines, and how many engines they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.model_shape import ModelShape

LARGEST_ENGINE = 16
"""Devices of one engine at most; it lies on one node."""


@dataclass(frozen=True)
class Supply:
    """The devices of one model. ``nodes``: how many each node has. ``legal_counts``: sizes that its vendor
    allows on a node; empty = any. ``transfers``: whether it hands KV caches over.
    ``microcredits_per_million_seconds`` is the price of device time; None = the price book has none.
    """

    figures: DeviceFigures
    vendor: str
    nodes: tuple[int, ...]
    legal_counts: tuple[int, ...] = ()
    transfers: bool = False
    microcredits_per_million_seconds: int | None = None

    @property
    def device_class(self) -> str:
        return self.figures.device_class

    @cached_property
    def sizes(self) -> Mapping[int, int]:
        """How many nodes there are of each size: few sizes, however many nodes."""
        return Counter(self.nodes)

    @cached_property
    def devices(self) -> int:
        return sum(self.nodes)

    def engines(self, layout: Layout) -> int:
        """How many engines of this size fit."""
        return sum(nodes * (size // layout.devices) for size, nodes in self.sizes.items())


def layouts(supply: Supply, shape: ModelShape) -> list[Layout]:
    """How an engine of the model can be spread over devices of one node, the smallest first.

    Heads have to come out even over tensor-parallel devices. Stages of a pipeline are for devices that speak
    over the host's bus: elsewhere sums over links cost less than what pipelines wait.
    """
    largest = min(LARGEST_ENGINE, max(supply.sizes, default=0))
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


def hold_both(nodes: Iterable[int] | Mapping[int, int], demands: Iterable[tuple[int, int]]) -> bool:
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
