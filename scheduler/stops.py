"""What may not run for now, as the loop asks about it: once a pass, and of each workload that it looks at."""

from __future__ import annotations

from common.guard import Guard
from common.resources import Workload
from scheduler.ports import Stop, Stops
from scheduler.translate.views import World


class StopBook:
    """What ``stops`` says of the workloads of a world; None = nothing is stopped. Engines are never: their
    requests are refused where they come in."""

    def __init__(self, stops: Stops | None, world: World, items: Guard) -> None:
        self._stops, self._world, self._items = stops, world, items

    async def look(self) -> set[str]:
        """Learn what holds now. Returns the uids for whom that may be something else. Where it cannot be
        learnt, what was known last holds on. Raises ``Unavailable`` where the database is away."""
        if self._stops is None:
            return set()
        with self._items.item("Stops", ("stops", "look")) as tried:
            tenants = await self._stops.look()
        if not tried.worked or not tenants:
            return set()
        return {uid for uid, workload in self._world.workloads.items() if self._payer(workload) in tenants}

    def why(self, workload: Workload) -> Stop | None:
        """Why it may not run; None where it may."""
        payer = self._payer(workload)
        return self._stops.why(workload, payer) if self._stops is not None and payer else None

    def _payer(self, workload: Workload) -> str:
        """The tenant that pays for it; empty where it may run all the same."""
        project = self._world.projects.get(workload.project or "")
        return project.spec.tenant if project is not None and workload.spec.kind != "inference" else ""
