"""The ways to serve a load: as one engine, as replicas, or as prefill and decode engines."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from inference.core.performance.device_figures import Layout
from inference.core.performance.serving import DECODE_BUSY, PREFILL_BUSY, Point, Traffic
from inference.core.performance.supply import Role, Supply

Mode = Literal["single", "replicated", "disaggregated"]


@dataclass(frozen=True)
class Slo:
    """Limits of what clients see, in milliseconds; None = none."""

    ttft_ms: float | None = None
    itl_ms: float | None = None

    def missed_by(self, point: Point) -> str:
        """What does not hold, in words; ``""`` where all does."""
        if self.ttft_ms is not None and point.ttft_ms > self.ttft_ms:
            return f"time to the first token {point.ttft_ms:,.0f} ms > {self.ttft_ms:,.0f} ms"
        if self.itl_ms is not None and point.itl_ms > self.itl_ms:
            return f"{point.itl_ms:,.1f} ms between tokens > {self.itl_ms:,.1f} ms"
        return ""


@dataclass(frozen=True)
class Leg:
    """Engines of one kind: on which devices, how spread, how many, and each at which point."""

    role: Role
    supply: Supply
    layout: Layout
    engines: int
    point: Point

    @property
    def devices(self) -> int:
        return self.engines * self.layout.devices

    @property
    def requests_per_second(self) -> float:
        """What all of them serve; legs that wait for each other are never all busy."""
        busy = {"serve": 1.0, "prefill": PREFILL_BUSY, "decode": DECODE_BUSY}[self.role]
        return self.engines * busy * self.point.requests_per_second


@dataclass(frozen=True)
class Option:
    """One way to serve the load."""

    mode: Mode
    legs: tuple[Leg, ...]
    traffic: Traffic

    @property
    def devices(self) -> int:
        return sum(leg.devices for leg in self.legs)

    @property
    def ttft_ms(self) -> float:
        return max(leg.point.ttft_ms for leg in self.legs)

    @property
    def itl_ms(self) -> float:
        return max(leg.point.itl_ms for leg in self.legs)

    @property
    def capacity(self) -> float:
        """Requests per second that it could serve."""
        return min(leg.requests_per_second for leg in self.legs)

    @property
    def served(self) -> float:
        """Requests per second of the load that it serves."""
        return min(self.capacity, self.traffic.requests_per_second or inf)

    @property
    def tokens_per_second_per_device(self) -> float:
        """Tokens of answers, at its full capacity."""
        return self.capacity * self.traffic.output_tokens / self.devices

    @property
    def microcredits_per_million_output_tokens(self) -> int | None:
        """Device time for a million tokens of answers at the load that it serves; None where a price is
        missing."""
        total = 0
        for leg in self.legs:
            price = leg.supply.microcredits_per_million_seconds
            if price is None:
                return None
            total += leg.devices * price
        return round(total / (self.served * self.traffic.output_tokens))

    @property
    def sources(self) -> tuple[str, ...]:
        """Where its figures come from."""
        return tuple(sorted({leg.point.source for leg in self.legs}))


@dataclass(frozen=True)
class Refusal:
    """Why devices of a class do not serve the load in a mode."""

    device_class: str
    mode: Mode | Literal["any"]
    why: str


def rank(option: Option) -> tuple[float, ...]:
    """Better is greater. For a load: what costs less, or else needs fewer devices. Without one: what the pool
    serves in all, then with how few devices."""
    if option.traffic.requests_per_second is None:
        return round(option.capacity, 3), -option.devices
    cost = option.microcredits_per_million_output_tokens
    return -(option.devices if cost is None else cost), option.capacity
