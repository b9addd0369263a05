"""What the pool has for Endpoints, asked once for all that want the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

from common.clock import Clock
from common.resources import Endpoint
from control.planning.plan import Planner
from inference.core.performance.supply import Supply

SUPPLIES_SECONDS = 60.0
"""So long it is taken that the pool has the devices that it had."""


class KeptSupplies:
    """To look at all nodes takes long where there are many of them, and most Endpoints ask for the same."""

    def __init__(self, planner: Planner, clock: Clock) -> None:
        self._planner, self._clock = planner, clock
        self._known: dict[tuple[str, str], Sequence[Supply]] = {}
        self._since_seconds = -math.inf

    async def of(self, endpoint: Endpoint, *, afresh: bool) -> Sequence[Supply]:
        """Those that ``spec.devices`` allows and of which figures are known. ``afresh``: as of now, whatever
        is known already."""
        now = self._clock.monotonic_seconds()
        if now - self._since_seconds >= SUPPLIES_SECONDS:
            self._known, self._since_seconds = {}, now
        key = endpoint.spec.devices.model_dump_json(), endpoint.spec.queue
        if afresh or key not in self._known:
            self._known[key], _ = await self._planner.supplies(endpoint)
        return self._known[key]
