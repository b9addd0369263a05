"""All that stops work, as the scheduler asks about it."""

from __future__ import annotations

from collections.abc import Collection

from common.clock import Clock
from common.guard import Guard
from common.resources import Workload
from scheduler.ports import Stop, Stops


class WorkStops:
    """Of several that stop a workload the first is told. One that cannot be looked at holds up no other: what
    was known of it last holds on."""

    def __init__(self, clock: Clock, *parts: Stops) -> None:
        self._parts = parts
        self._guard = Guard("stops", clock)

    async def look(self) -> Collection[str]:
        """See ``scheduler.ports.Stops``."""
        tenants = set[str]()
        for part in self._parts:
            with self._guard.item("Stops", ("look", type(part).__name__)):
                tenants.update(await part.look())
        return tenants

    def why(self, workload: Workload, tenant: str) -> Stop | None:
        """See ``scheduler.ports.Stops``."""
        found = (part.why(workload, tenant) for part in self._parts)
        return next((stop for stop in found if stop is not None), None)
