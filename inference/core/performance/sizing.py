"""All options for a load: each device model and size of engine, alone and in pairs as prefill and decode."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from inference.core.performance.device_figures import Layout
from inference.core.performance.measured import Measured
from inference.core.performance.memory import most_sequences, why_too_small
from inference.core.performance.model_shape import ModelShape
from inference.core.performance.options import Leg, Mode, Option, Refusal, Slo, rank
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
from inference.core.performance.supply import Role, Supply, layouts

BATCHES = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64),
    *(72, 80, 88, 96, 112, 128, 144, 160, 192, 224, 256, 320, 384, 448, 512),
)
MOST_TRIED = 16
ROUNDING = 1e-9
_PointOf = Callable[[Engine, StepTimes, int, Traffic], Point]


@dataclass(frozen=True)
class _Candidate:
    """The best point of an engine in a role. ``room``: so many of them there can be at most."""

    supply: Supply
    layout: Layout
    point: Point
    room: int

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
            served, why = self._candidates(supply, mixed_point, "serve")
            options = list(self._replicated(served))
            found += options
            if not options:
                refused.append(Refusal(supply.device_class, "replicated", why or self._no_room(served)))
            read, write, why = self._parted(supply)
            prefills += read
            decodes += write
            if why:
                refused.append(Refusal(supply.device_class, "disaggregated", why))
        parted = list(self._disaggregated(prefills, decodes))
        return [*found, *parted], [*refused, *_alone(prefills, decodes, parted)]

    def _parted(self, supply: Supply) -> tuple[list[_Candidate], list[_Candidate], str]:
        """What its devices are as prefill and as decode, and why they are not, where that is so."""
        if not supply.transfers:
            return [], [], "it does not hand KV caches over"
        legs: dict[str, list[_Candidate]] = {"prefill": [], "decode": []}
        reasons: dict[str, str] = {}
        roles: tuple[tuple[Role, _PointOf], ...] = (("prefill", prefill_point), ("decode", decode_point))
        for role, point_of in roles:
            if supply.devices_for(role):
                legs[role], reasons[role] = self._candidates(supply, point_of, role)
        told = {role: why for role, why in reasons.items() if why}
        if len(set(told.values())) == 1 and len(told) == len(legs):
            return [], [], next(iter(told.values()))
        why = "; ".join(f"{role}: {why}" for role, why in told.items())
        return legs["prefill"], legs["decode"], why

    def _candidates(self, supply: Supply, point_of: _PointOf, role: Role) -> tuple[list[_Candidate], str]:
        """The best point of each layout within the SLO, and why the largest engine has none."""
        found, why = [], f"no number of its devices that a node has divides {self._shape.heads} heads"
        for layout in layouts(supply, self._shape, role):
            point, reason = self._best(Engine(self._shape, supply.figures, layout), point_of)
            if point is None:
                why = f"{layout}: {reason}"
            else:
                found.append(_Candidate(supply, layout, point, supply.engines(layout, role)))
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
            room, rate = one.room, self._traffic.requests_per_second
            engines = room if rate is None else ceil(rate / one.point.requests_per_second)
            if 0 < engines <= room:
                mode: Mode = "single" if engines == 1 else "replicated"
                yield Option(mode, (one.leg("serve", engines),), self._traffic)

    def _no_room(self, candidates: Sequence[_Candidate]) -> str:
        best = max(candidates, key=lambda one: one.point.requests_per_second / one.layout.devices)
        rate = self._traffic.requests_per_second or 0.0
        needed, room = ceil(rate / best.point.requests_per_second), best.room
        return f"{needed} engines of {best.layout.devices} devices are needed, and there is room for {room}"

    def _disaggregated(
        self, prefills: Sequence[_Candidate], decodes: Sequence[_Candidate]
    ) -> Iterator[Option]:
        """The best m and n of each pair of devices that understand each other's caches.
        Without a load to serve, sizes of engines that can never serve more than what was found are not tried.
        """
        best: dict[tuple[str, str], Option] = {}
        pairs = [
            (_most(first, second), first, second)
            for first in prefills
            for second in decodes
            if first.supply.fits(second.supply)
        ]
        for most, first, second in sorted(pairs, key=lambda pair: -pair[0]):
            devices = first.supply.device_class, second.supply.device_class
            known = best.get(devices)
            if known is not None and self._traffic.requests_per_second is None and most < known.capacity:
                continue
            option = self._matched(first, second)
            if option is not None and (known is None or rank(option) > rank(known)):
                best[devices] = option
        yield from best.values()

    def _matched(self, first: _Candidate, second: _Candidate) -> Option | None:
        """So many engines of each that neither waits much for the other."""
        reads = PREFILL_BUSY * first.point.requests_per_second
        writes = DECODE_BUSY * second.point.requests_per_second
        rate = self._traffic.requests_per_second
        if rate is not None:
            pairs = [(ceil(rate / reads), ceil(rate / writes))]
        else:
            served = min(reads * first.room, writes * second.room)
            pairs = [(min(first.room, ceil(served / reads)), min(second.room, ceil(served / writes)))]
            if first.supply is second.supply:
                pairs += _shared_pairs(first, second, reads / writes)
        options = [
            Option("disaggregated", (first.leg("prefill", m), second.leg("decode", n)), self._traffic)
            for m, n in pairs
            if _fits(first, m, second, n)
        ]
        return max(options, key=rank, default=None)


def _counts(first: _Candidate, second: _Candidate, ratio: float) -> list[int]:
    """How many prefill engines may be best on devices of one model: few, or about as many as fill them when
    each has ``ratio`` decode engines."""
    full = int(first.supply.devices / (first.layout.devices + ratio * second.layout.devices))
    near = {full + step for step in range(-3, 4)}
    return [count for count in sorted({*range(1, MOST_TRIED + 1), *near}) if 1 <= count <= first.room]


def _shared_pairs(first: _Candidate, second: _Candidate, ratio: float) -> list[tuple[int, int]]:
    """Numbers of engines on devices of one model of which one pair is best: each prefill engine with the
    ``ratio`` of decode engines that it feeds, and the first that finds no room for them with what is left."""
    found: list[tuple[int, int]] = []
    for m in _counts(first, second, ratio):
        exact = max(1.0, m * ratio)
        found += [(m, n) for n in {int(exact), ceil(exact)}]
        if not _fits(first, m, second, int(exact)):
            beside = range(1, second.room + 1)
            left = bisect_left(beside, True, key=lambda n: not _fits(first, m, second, n))
            return [*found, (m, left)] if left else found
    return found


def _fits(first: _Candidate, m: int, second: _Candidate, n: int) -> bool:
    """Whether there is room for both, no device of which is counted twice."""
    if first.supply is second.supply:
        return first.supply.holds((m, first.layout.devices), (n, second.layout.devices))
    return m <= first.room and n <= second.room


def _most(first: _Candidate, second: _Candidate) -> float:
    """Requests per second of which engines of these sizes serve no more, however many there are of each."""
    reads = PREFILL_BUSY * first.point.requests_per_second
    writes = DECODE_BUSY * second.point.requests_per_second
    most = min(reads * first.room, writes * second.room)
    if first.supply is second.supply:
        each = first.layout.devices / reads + second.layout.devices / writes
        most = min(most, first.supply.devices / each)
    return most * (1 + ROUNDING)


def _alone(
    prefills: Sequence[_Candidate], decodes: Sequence[_Candidate], parted: Sequence[Option]
) -> Iterator[Refusal]:
    """What would do for a role, but is in no option: no device of the other one understands its KV caches, or
    there is no room for both."""
    paired = {(leg.role, leg.supply.device_class) for option in parted for leg in option.legs}
    sides: tuple[tuple[Role, Sequence[_Candidate], Role, Sequence[_Candidate]], ...] = (
        ("prefill", prefills, "decode", decodes),
        ("decode", decodes, "prefill", prefills),
    )
    for role, mine, other, theirs in sides:
        told = {supply.device_class: supply for supply in (one.supply for one in mine)}
        for device_class, supply in told.items():
            if (role, device_class) in paired:
                continue
            why = f"there is no room for what the load needs beside {other}"
            if not any(supply.fits(one.supply) for one in theirs):
                vendor, connector = supply.vendor, supply.connector
                why = f"nothing that is left for {other} takes KV caches of {vendor} by {connector}"
            yield Refusal(device_class, "disaggregated", f"{role}: {why}")
