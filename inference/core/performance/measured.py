"""Figures that this pool has measured, and how far they reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from inference.core.performance.device_figures import Layout
from inference.core.performance.serving import Point, Traffic, mixed_point
from inference.core.performance.steps import Engine, NotKnown, StepTimes

REACH = 2.0
"""Doublings of batch, prompt and answer, taken together, after which a measurement says nothing any more."""
_DOUBT = 0.25
"""Weight of the model where a measurement is as far as one doubling: about half."""
MEASURED = "measured"


@dataclass(frozen=True)
class Measurement:
    """What clients of one engine saw under a steady load. ``device``: the device class, or the row of the
    device catalogue. ``batch``: requests at work at once, in the mean. ``by``: who measured it, how and when.
    """

    model: str
    device: str
    layout: Layout
    batch: float
    prompt_tokens: int
    output_tokens: int
    ttft_ms: float
    itl_ms: float
    by: str


class Measured:
    """Corrects the points of a model's engines by what was measured of them.

    Between and near measurements the ratio of measured to modelled times is a weighted mean; it fades into 1
    with distance, so nothing jumps where a measurement ends.
    """

    def __init__(self, measurements: Sequence[Measurement] = ()) -> None:
        self._known = measurements

    def of(self, engine: Engine) -> Sequence[Measurement]:
        """Those of this engine's device and size."""
        names = {engine.device.name.casefold(), engine.device.device_class.casefold()}
        return [one for one in self._known if one.device.casefold() in names and one.layout == engine.layout]

    def correct(self, engine: Engine, steps: StepTimes, point: Point, traffic: Traffic) -> Point:
        """The point, with times and rate as measured engines would have them. A leg that only reads or only
        writes is made of the same passes, so what holds for an engine that does both holds for it too."""
        found = self.of(engine)
        if not found:
            return point
        first, between, trust = self._ratios(found, engine, steps, point, traffic)
        ttft_ms, itl_ms = point.ttft_ms * first, point.itl_ms * between
        steps_after = max(1, traffic.output_tokens - 1)
        slower = (ttft_ms + itl_ms * steps_after) / (point.ttft_ms + point.itl_ms * steps_after)
        return replace(
            point,
            ttft_ms=ttft_ms,
            itl_ms=itl_ms,
            requests_per_second=point.requests_per_second / slower,
            source=MEASURED if trust >= 0.5 else point.source,
        )

    def _ratios(
        self,
        found: Sequence[Measurement],
        engine: Engine,
        steps: StepTimes,
        point: Point,
        traffic: Traffic,
    ) -> tuple[float, float, float]:
        """By what to multiply the time to the first token and between tokens, and the part of the weight that
        measurements have."""
        first = between = weights = 0.0
        for one in found:
            weight = _weight(_distance(one, point, traffic))
            if not weight:
                continue
            was = Traffic(one.prompt_tokens, one.output_tokens)
            try:
                modelled = mixed_point(engine, steps, max(1, round(one.batch)), was)
            except NotKnown:
                continue
            first += weight * math.log(one.ttft_ms / modelled.ttft_ms)
            between += weight * math.log(one.itl_ms / modelled.itl_ms)
            weights += weight
        total = weights + _DOUBT
        return math.exp(first / total), math.exp(between / total), weights / total


def _distance(one: Measurement, point: Point, traffic: Traffic) -> float:
    """In doublings. The batch of a leg that only reads says nothing of how many are written at once."""
    distances = [
        math.log2(traffic.prompt_tokens / one.prompt_tokens),
        math.log2(traffic.output_tokens / one.output_tokens),
    ]
    if point.itl_ms:
        distances.append(math.log2(point.batch / one.batch))
    return math.hypot(*distances)


def _weight(distance: float) -> float:
    """100 at the measurement, about the weight of the model one doubling away, 0 from ``REACH`` on."""
    if distance >= REACH:
        return 0.0
    return (1.0 - distance / REACH) ** 2 / (distance**2 + 0.01)
