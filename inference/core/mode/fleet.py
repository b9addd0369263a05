"""The engines of an Endpoint: on which devices, how many, and which of them only read prompts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from inference.core.performance.device_figures import Layout
from inference.core.performance.supply import Supply


@dataclass(frozen=True)
class EngineGroup:
    """Equal engines. ``readers``: so many of them read prompts for the others and write no answers. What the
    devices cost, and how many more there are, makes no other group of it."""

    supply: Supply = field(compare=False)
    layout: Layout
    engines: int
    readers: int = 0
    device_class: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "device_class", self.supply.device_class)

    @property
    def devices(self) -> int:
        return self.engines * self.layout.devices

    @property
    def words(self) -> str:
        """For people."""
        what = f"{self.device_class} {self.layout}"
        if not self.readers:
            return f"{self.engines} x {what}"
        return f"{self.readers} prefill and {self.engines - self.readers} decode x {what}"


@dataclass(frozen=True)
class Fleet:
    """All engines of an Endpoint, grouped by device and size. ``min_prompt_tokens``: where there are readers,
    the others read shorter prompts themselves."""

    groups: tuple[EngineGroup, ...]
    min_prompt_tokens: int = 0

    @property
    def engines(self) -> int:
        return sum(group.engines for group in self.groups)

    @property
    def readers(self) -> int:
        return sum(group.readers for group in self.groups)

    @property
    def devices(self) -> int:
        return sum(group.devices for group in self.groups)

    @property
    def kinds(self) -> frozenset[tuple[str, Layout]]:
        """On which devices, and of which size, its engines are."""
        return frozenset((group.device_class, group.layout) for group in self.groups)

    @property
    def mode(self) -> str:
        """single, replicated or disaggregated."""
        if self.readers:
            return "disaggregated"
        return "single" if self.engines == 1 else "replicated"

    @property
    def cost(self) -> float:
        """Of a second of all devices, in micro-credits per million; where a price is missing, devices."""
        prices = [group.supply.microcredits_per_million_seconds for group in self.groups]
        if None in prices:
            return float(self.devices)
        return float(sum(g.devices * p for g, p in zip(self.groups, prices, strict=True) if p is not None))

    @property
    def words(self) -> str:
        """For people: ``disaggregated: 2 prefill and 6 decode x nvidia/H100 tp1``."""
        engines = " + ".join(group.words for group in self.groups)
        shorter = f", prompts under {self.min_prompt_tokens:,} tokens read by decode" if self.readers else ""
        return f"{self.mode}: {engines}{shorter}"

    @property
    def engines_only(self) -> Fleet:
        """The same engines, all of which read and write."""
        return Fleet(tuple(replace(group, readers=0) for group in self.groups))

    def restarts(self, present: Fleet) -> int:
        """How many engines have to be started to make it of ``present``; roles need no start."""
        running = {(g.device_class, g.layout): g.engines for g in present.groups}
        return sum(
            max(0, group.engines - running.get((group.device_class, group.layout), 0))
            for group in self.groups
        )
