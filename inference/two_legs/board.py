"""What gateways have learned, as they told last. In memory: they tell it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.clock import Clock
from common.wire import LearnedThreshold, ThresholdReport

STALE_SECONDS = 60.0
"""A gateway that has told nothing for so long is not there any more."""
MAX_GATEWAYS = 256


@dataclass(frozen=True)
class _Told:
    at_seconds: float
    thresholds: dict[str, LearnedThreshold]


class ThresholdBoard:
    """By Endpoint, as ``project/name``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def report(self, report: ThresholdReport) -> None:
        """Take the place of what the gateway told before."""
        self._told.pop(report.gateway, None)
        while len(self._told) >= MAX_GATEWAYS:
            self._told.pop(next(iter(self._told)))
        thresholds = {one.endpoint: one for one in report.thresholds}
        self._told[report.gateway] = _Told(self._clock.monotonic_seconds(), thresholds)

    def of(self, endpoint: str) -> Sequence[LearnedThreshold]:
        """What each gateway has learned of it."""
        now_seconds = self._clock.monotonic_seconds()
        fresh = (told for told in self._told.values() if 0 <= now_seconds - told.at_seconds <= STALE_SECONDS)
        return [told.thresholds[endpoint] for told in fresh if endpoint in told.thresholds]
