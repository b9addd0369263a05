"""The ways to serve a load: as one engine, as replicas, or as prefill and decode engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Literal

from inference.core.performance.device_figures import Layout
from inference.core.performance.measured import Measured
from inference.core.performance.memory import most_sequences, why_too_small
from inference.core.performance.model_shape import ModelShape
from inference.core.performance.serving import (
    DECODE_BUSY,
    PREFILL_BUSY,
    STEP_TOKENS,
    Point,
    Traffic,
    decode_point,
    mixed_point,
    prefill_point,
)
from inference.core.performance.steps import Engine, NotKnown, PerformanceSource, StepTimes
from inference.core.performance.supply import Supply, hold_both, layouts

Mode = Literal["single", "replicated", "disaggregated"]
Role = Literal["serve", "prefill", "decode"]
BATCHES = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64),
    *(72, 80, 88, 96, 112, 128, 144, 160, 192, 224, 256, 320, 384, 448, 512),
)
MOST_TRIED = 16
ROUNDING = 1e-9
_PointOf = Callable[[Engine, StepTimes, int, Traffic], Point]


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


@dataclass(frozen=True)
class _Candidate:
    """The best point of an engine in a role."""

    supply: Supply
    layout: Layout
    point: Point

    def leg(self, role: Role, engines: int) -> Leg:
        return Leg(role, self.supply, self.layout, engines, self.point)


class Sizing:
    """All options for a model and its load on what devices there are."""

    def __init__(
        self,
        shape: ModelShape,
        supplies: Sequence[Supply],
        sources: Sequence[PerformanceSource],
        traffic: Traffic,
        slo: Slo,
        measured: Measured | None = None,
    ) -> None:
        """``sources``: the best first; the next is asked about an engine that one does not know.
        ``measured``: by what their figures are corrected.
        """
        self._measured = measured or Measured()
        self._shape, self._sources = shape, sources
        self._supplies = [supply for supply in supplies if supply.devices]
        self._traffic, self._slo = traffic, slo

    def options(self) -> tuple[list[Option], list[Refusal]]:
        """What serves the load within the SLO, in no order, and why the rest does not."""
        found: list[Option] = []
        refused: list[Refusal] = []
        prefills: list[_Candidate] = []
        decodes: list[_Candidate] = []
        for supply in self._supplies:
            if supply.figures.missing:
                why = f"the device catalogue does not say its {supply.figures.missing}"
                refused.append(Refusal(supply.device_class, "any", why))
                continue
            served, why = self._candidates(supply, mixed_point)
            options = list(self._replicated(served))
            found += options
            if not options:
                refused.append(Refusal(supply.device_class, "replicated", why or self._no_room(served)))
            if supply.transfers:
                prefills += self._candidates(supply, prefill_point)[0]
                decodes += self._candidates(supply, decode_point)[0]
            else:
                refused.append(
                    Refusal(supply.device_class, "disaggregated", "it does not hand KV caches over")
                )
        return found + list(self._disaggregated(prefills, decodes)), refused

    def _candidates(self, supply: Supply, point_of: _PointOf) -> tuple[list[_Candidate], str]:
        """The best point of each layout within the SLO, and why the largest engine has none."""
        found, why = [], f"no number of its devices that a node has divides {self._shape.heads} heads"
        for layout in layouts(supply, self._shape):
            point, reason = self._best(Engine(self._shape, supply.figures, layout), point_of)
            if point is None:
                why = f"{layout}: {reason}"
            else:
                found.append(_Candidate(supply, layout, point))
        return found, "" if found else why

    def _best(self, engine: Engine, point_of: _PointOf) -> tuple[Point | None, str]:
        """The point that serves most within SLO and memory, from the first source that knows the engine."""
        most = most_sequences(engine, self._traffic.tokens)
        if not most:
            return None, why_too_small(engine, self._traffic.tokens)
        reason = ""
        for source in self._sources:
            try:
                return self._within(engine, source.steps(engine), point_of, most)
            except NotKnown as unknown:
                reason = str(unknown)
        return None, reason

    def _within(
        self, engine: Engine, steps: StepTimes, point_of: _PointOf, most: int
    ) -> tuple[Point | None, str]:
        best: Point | None = None
        why = ""
        for batch in BATCHES:
            reads_too_many = batch > 1 and batch * self._traffic.prompt_tokens > 2 * STEP_TOKENS
            if batch > most or (point_of is prefill_point and reads_too_many):
                break
            modelled = point_of(engine, steps, batch, self._traffic)
            point = self._measured.correct(engine, steps, modelled, self._traffic)
            missed = self._slo.missed_by(point)
            if missed:
                why = why or missed
                break
            if best is None or point.requests_per_second > best.requests_per_second:
                best = point
        return best, why

    def _replicated(self, candidates: Iterable[_Candidate]) -> Iterator[Option]:
        for one in candidates:
            room, rate = one.supply.engines(one.layout), self._traffic.requests_per_second
            engines = room if rate is None else ceil(rate / one.point.requests_per_second)
            if 0 < engines <= room:
                mode: Mode = "single" if engines == 1 else "replicated"
                yield Option(mode, (one.leg("serve", engines),), self._traffic)

    def _no_room(self, candidates: Sequence[_Candidate]) -> str:
        best = max(candidates, key=lambda one: one.point.requests_per_second / one.layout.devices)
        rate = self._traffic.requests_per_second or 0.0
        needed, room = ceil(rate / best.point.requests_per_second), best.supply.engines(best.layout)
        return f"{needed} engines of {best.layout.devices} devices are needed, and there is room for {room}"

    def _disaggregated(
        self, prefills: Sequence[_Candidate], decodes: Sequence[_Candidate]
    ) -> Iterator[Option]:
        """The best m and n of each pair of devices; engines of one vendor understand each other's caches.
        Without a load to serve, sizes of engines that can never serve more than what was found are not tried.
        """
        best: dict[tuple[str, str], Option] = {}
        pairs = [
            (_most(first, second), first, second)
            for first in prefills
            for second in decodes
            if first.supply.vendor == second.supply.vendor
        ]
        for most, first, second in sorted(pairs, key=lambda pair: -pair[0]):
            devices = first.supply.device_class, second.supply.device_class
            known = best.get(devices)
            if known is not None and self._traffic.requests_per_second is None and most < known.capacity:
                continue
            option = self._matched(first, second)
            if option is not None and (known is None or _rank(option) > _rank(known)):
                best[devices] = option
        yield from best.values()

    def _matched(self, first: _Candidate, second: _Candidate) -> Option | None:
        """So many engines of each that neither waits much for the other."""
        reads = PREFILL_BUSY * first.point.requests_per_second
        writes = DECODE_BUSY * second.point.requests_per_second
        rate = self._traffic.requests_per_second
        if rate is not None:
            pairs = [(ceil(rate / reads), ceil(rate / writes))]
        elif first.supply is not second.supply:
            reading, writing = first.supply.engines(first.layout), second.supply.engines(second.layout)
            served = min(reads * reading, writes * writing)
            pairs = [(min(reading, ceil(served / reads)), min(writing, ceil(served / writes)))]
        else:
            ideal = [(m, m * reads / writes) for m in self._counts(first, reads / writes, second.layout)]
            pairs = [(m, n) for m, exact in ideal for n in {max(1, int(exact)), ceil(exact)}]
        options = [
            Option("disaggregated", (first.leg("prefill", m), second.leg("decode", n)), self._traffic)
            for m, n in pairs
            if self._fits(first, m, second, n)
        ]
        return max(options, key=_rank, default=None)

    def _counts(self, first: _Candidate, ratio: float, decode: Layout) -> list[int]:
        """How many prefill engines may be best on devices of one model: few, or about as many as fill them
        when each has ``ratio`` decode engines."""
        most = first.supply.engines(first.layout)
        full = int(first.supply.devices / (first.layout.devices + ratio * decode.devices))
        near = {full + step for step in range(-3, 4)}
        return [count for count in sorted({*range(1, MOST_TRIED + 1), *near}) if 1 <= count <= most]

    def _fits(self, first: _Candidate, m: int, second: _Candidate, n: int) -> bool:
        one, other = (m, first.layout.devices), (n, second.layout.devices)
        if first.supply is second.supply:
            return hold_both(first.supply.sizes, (one, other))
        return hold_both(first.supply.sizes, (one,)) and hold_both(second.supply.sizes, (other,))


def _most(first: _Candidate, second: _Candidate) -> float:
    """Requests per second of which engines of these sizes serve no more, however many there are of each."""
    reads = PREFILL_BUSY * first.point.requests_per_second
    writes = DECODE_BUSY * second.point.requests_per_second
    if first.supply is second.supply:
        each = first.layout.devices / reads + second.layout.devices / writes
        most = first.supply.devices / each
    else:
        most = min(reads * first.supply.engines(first.layout), writes * second.supply.engines(second.layout))
    return most * (1 + ROUNDING)


def _rank(option: Option) -> tuple[float, ...]:
    """Better is greater. For a load: what costs less, or else needs fewer devices. Without one: what the pool
    serves in all, then with how few devices."""
    if option.traffic.requests_per_second is None:
        return round(option.capacity, 3), -option.devices
    cost = option.microcredits_per_million_output_tokens
    return -(option.devices if cost is None else cost), option.capacity
