"""What gateways have waiting and at work for Endpoints, as they told last. In memory: they tell it again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from common.clock import Clock
from common.wire import Demand, DemandReport

STALE_SECONDS = 15.0
"""A gateway that has told nothing for so long has nothing to do, or is not there any more."""
MAX_GATEWAYS = 256


@dataclass(frozen=True)
class _Told:
    at_seconds: float
    demands: dict[str, Demand]


class DemandBoard:
    """``news`` comes when somebody begins to wait for an engine."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, _Told] = {}
        self._news = asyncio.Event()

    def report(self, report: DemandReport) -> None:
        """Take the place of what the gateway told before."""
        self._forget_stale()
        before = self._told.pop(report.gateway, None)
        while len(self._told) >= MAX_GATEWAYS:
            self._told.pop(next(iter(self._told)))
        told = {demand.endpoint: demand for demand in report.demands if demand.held or demand.active}
        if told:
            self._told[report.gateway] = _Told(self._clock.monotonic_seconds(), told)
        known = before.demands if before is not None else {}
        if any(demand.held and not _held(known, name) for name, demand in told.items()):
            self._news.set()

    def of(self, endpoint: str) -> Demand:
        """What all gateways have for the Endpoint ``project/name``."""
        self._forget_stale()
        found = [told.demands[endpoint] for told in self._told.values() if endpoint in told.demands]
        return Demand(
            endpoint=endpoint,
            held=sum(demand.held for demand in found),
            active=sum(demand.active for demand in found),
        )

    async def news(self, seconds: float) -> None:
        """Return when somebody new waits, after so many seconds at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    def _forget_stale(self) -> None:
        now_seconds = self._clock.monotonic_seconds()
        for gateway in [name for name, told in self._told.items() if _is_stale(told, now_seconds)]:
            del self._told[gateway]


def _held(demands: dict[str, Demand], endpoint: str) -> int:
    known = demands.get(endpoint)
    return known.held if known is not None else 0


def _is_stale(told: _Told, now_seconds: float) -> bool:
    return not 0 <= now_seconds - told.at_seconds <= STALE_SECONDS
