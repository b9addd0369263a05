"""All that stops work, as the scheduler asks about it."""

from __future__ import annotations

from collections.abc import Collection

from common.resources import Workload
from scheduler.ports import Stop, Stops


class WorkStops:
    """Of several that stop a workload the first is told."""

    def __init__(self, *parts: Stops) -> None:
        self._parts = parts

    async def look(self) -> Collection[str]:
        """See ``scheduler.ports.Stops``."""
        return {tenant for part in self._parts for tenant in await part.look()}

    def why(self, workload: Workload, tenant: str) -> Stop | None:
        """See ``scheduler.ports.Stops``."""
        found = (part.why(workload, tenant) for part in self._parts)
        return next((stop for stop in found if stop is not None), None)
