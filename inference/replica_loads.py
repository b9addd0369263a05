"""The load of all engines that are ready, for whoever shares devices with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from common.guard import fault_of
from common.load import EngineLoad, ReplicaLoad
from common.resources import Workload
from common.resources.serving import Replica
from common.store.port import Store
from common.telemetry import get_logger
from inference.engine_workload import replica_of
from inference.ports import Engines

MOST_SILENT = 10_000
"""So many engines are remembered as silent; then remembering begins anew."""
_log = get_logger(__name__)


class ReplicaLoads:
    """Implements ``scheduler.ports.ServingLoads``: every engine of an Endpoint is asked, all at once."""

    def __init__(self, store: Store, engines: Engines) -> None:
        self._store, self._engines = store, engines
        self._silent: set[str] = set()

    async def replicas(self) -> Sequence[ReplicaLoad]:
        return await self.of([w for w in await self._store.list(Workload) if _is_engine(w)])

    async def of(
        self, workloads: Sequence[Workload], answer_seconds: float | None = None
    ) -> Sequence[ReplicaLoad]:
        """Of these engines those that are ready; what takes longer to answer does not tell."""
        ready = [(w, replica) for w in workloads if (replica := replica_of(w)).ready]
        loads = await asyncio.gather(*(self._load(replica, answer_seconds) for _, replica in ready))
        found = [_told(workload, load) for (workload, _), load in zip(ready, loads, strict=True)]
        self._report(found)
        return found

    async def _load(self, replica: Replica, answer_seconds: float | None) -> EngineLoad | None:
        try:
            async with asyncio.timeout(answer_seconds):
                return await self._engines.load(replica.url)
        except Exception as error:  # noqa: BLE001 - one engine's trouble is not the others'
            _log.debug("engine tells no load", workload=replica.workload, error=fault_of(error).message)
            return None

    def _report(self, found: Sequence[ReplicaLoad]) -> None:
        """Say so once, not with every look."""
        silent = {one.id for one in found if one.load is None}
        for replica in sorted(silent - self._silent):
            _log.warning("engine tells no load; the others stand for it", replica=replica)
        if len(self._silent) > MOST_SILENT:
            self._silent = set()
        self._silent = self._silent - {one.id for one in found} | silent


def _is_engine(workload: Workload) -> bool:
    owner = workload.metadata.owner
    return owner is not None and owner.kind == "Endpoint"


def _told(workload: Workload, load: EngineLoad | None) -> ReplicaLoad:
    """An engine on several nodes holds the devices of all of its ranks."""
    return ReplicaLoad(
        id=f"{workload.metadata.uid}/{workload.status.attempt}",
        device_class=replica_of(workload).device_class,
        millis=sum(grant.millis for rank in workload.status.ranks for grant in rank.grants),
        load=load,
    )
