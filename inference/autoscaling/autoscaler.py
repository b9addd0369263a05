"""The loop that looks at engines and gateways, and writes how many engines Endpoints are to have.

It only writes ``status.scaling``. The endpoint controller makes Workloads of it, and the scheduler places
them like all others, with their quota, queue and priority.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from prometheus_client import Counter

from common.clock import Clock
from common.errors import Conflict, NotFound
from common.guard import Guard
from common.ids import derived_id
from common.load import ReplicaLoad
from common.loop import LoopHealth, first_of
from common.resources import Endpoint, Workload
from common.resources.scaling import EngineRole, RoleScaling
from common.store.kept import KeptList, owned_workloads
from common.store.port import Event, StatusWrite, Store
from common.telemetry import get_logger
from inference.autoscaling.board import DemandBoard
from inference.autoscaling.watch import EndpointWatch
from inference.core.autoscaling.signals import counted
from inference.engine_workload import replica_of
from inference.replica_loads import ReplicaLoads

LOOK_SECONDS = 5.0
LEAST_SECONDS = 0.2
"""Between two looks, however many begin to wait."""
REST = 3
"""So many times as long as a look computed there is no other, but for one that is due anyway: however often
somebody begins to wait, there is time left for others."""
ANSWER_SECONDS = 2.0
"""An engine that takes longer to tell its load does not tell it: one that hangs holds up no other."""
WRITE_TRIES = 3

CHANGES = Counter(
    "computility_autoscaling_changes", "Changes of how many engines a role is to have", ("direction",)
)
_log = get_logger(__name__)


class Autoscaler:
    """``board`` has what gateways tell. In memory is what was seen lately; without it, as after a restart,
    engines stay for a window of calm."""

    def __init__(self, store: Store, loads: ReplicaLoads, board: DemandBoard, clock: Clock) -> None:
        self._store, self._loads, self._clock = store, loads, clock
        self._endpoints = KeptList(store, Endpoint)
        self._workloads = owned_workloads(store, Endpoint.__name__)
        self._guard = Guard("autoscaler", clock)
        self._watches: dict[str, EndpointWatch] = {}
        self.board = board

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Look every ``LOOK_SECONDS`` until ``stop`` is set, and as soon as somebody waits for an engine."""
        health = health or LoopHealth("autoscaler", self._clock)
        while not stop.is_set():
            began_seconds = time.thread_time()
            try:
                await self.step()
                health.note(None)
            except Exception as error:  # noqa: BLE001 - the loop's boundary: one bad look must not end it
                health.note(error)
            rest_seconds = rest_after(time.thread_time() - began_seconds)
            await first_of(asyncio.sleep(rest_seconds), stop.wait())
            if not stop.is_set():
                await first_of(self.board.news(LOOK_SECONDS - rest_seconds), stop.wait())

    async def step(self) -> None:
        """One look at all Endpoints that follow their load."""
        endpoints = await self._endpoints.now()
        elastic = [one.copy_deep() for one in endpoints if one.is_elastic]  # to write to
        uids = {endpoint.metadata.uid for endpoint in elastic}
        for uid in self._watches.keys() - uids:
            del self._watches[uid]
        self._guard.forget_gone()
        if not elastic:
            return
        owned: dict[str, list[Workload]] = {uid: [] for uid in uids}
        for workload in await self._workloads.now():
            owner = workload.metadata.owner
            if owner is not None and owner.uid in owned:
                owned[owner.uid].append(workload)
        await asyncio.gather(*(self._look(endpoint, owned[endpoint.metadata.uid]) for endpoint in elastic))

    def watch_of(self, endpoint: Endpoint) -> EndpointWatch | None:
        """What was seen of it; None before the first look, and of one that does not follow its load."""
        return self._watches.get(endpoint.metadata.uid)

    async def _look(self, endpoint: Endpoint, workloads: Sequence[Workload]) -> None:
        uid = endpoint.metadata.uid
        with self._guard.item("Endpoint", ("look", uid), endpoint.metadata.generation):
            serving: dict[EngineRole, list[Workload]] = {}
            for workload in workloads:
                replica = replica_of(workload)
                if replica.ready and not replica.draining:
                    serving.setdefault(replica.role, []).append(workload)
            roles = list(serving)
            loads = await asyncio.gather(*(self._loads_of(serving[role]) for role in roles))
            watch = self._watches.setdefault(uid, EndpointWatch(self._clock))
            demand = self.board.of(endpoint_key(endpoint))
            watch.look(endpoint, dict(zip(roles, loads, strict=True)), demand)
            await self._write(endpoint, watch)

    async def _loads_of(self, workloads: Sequence[Workload]) -> Sequence[ReplicaLoad]:
        return await self._loads.of(workloads, ANSWER_SECONDS)

    async def _write(self, endpoint: Endpoint, watch: EndpointWatch) -> None:
        """What is wanted, with an event for each change, in one transaction."""
        uid = endpoint.metadata.uid
        for _ in range(WRITE_TRIES):
            events = self._set(endpoint, watch)
            if events is None:
                return
            (result,) = await self._store.set_statuses([StatusWrite(endpoint, tuple(events))])
            if not isinstance(result, Conflict):
                if isinstance(result, Endpoint):
                    _tell(endpoint, events)
                return
            try:
                endpoint = await self._store.get(Endpoint, endpoint.name, endpoint.project)
            except NotFound:
                return
            if endpoint.metadata.uid != uid:  # another one has its name: nothing was seen of that
                return

    def _set(self, endpoint: Endpoint, watch: EndpointWatch) -> list[Event] | None:
        """Set ``status.scaling`` to what is wanted; the events that tell of it. None where it says so."""
        known = {one.role: one for one in endpoint.status.scaling}
        events: list[Event] = []
        scaling: list[RoleScaling] = []
        for role, seen in watch.roles.items():
            wanted, before = seen.scaler.wanted, known.get(role)
            if before is not None and before.wanted == wanted:
                scaling.append(before)
                continue
            why = seen.changed
            scaling.append(
                RoleScaling(
                    role=role,
                    wanted=wanted,
                    reason=why.reason if why is not None else "Begun",
                    message=why.message if why is not None else "it begins with the engines that there are",
                    since_ms=self._clock.now_ms(),
                )
            )
            had = before.wanted if before is not None else endpoint.wanted[role]
            if had != wanted:
                events.append(_event(endpoint, scaling[-1], had))
        if scaling == endpoint.status.scaling:
            return None
        endpoint.status.scaling = scaling
        return events


def rest_after(computed_seconds: float) -> float:
    """How long there is no other look after one that computed for so long."""
    return min(max(LEAST_SECONDS, REST * computed_seconds), LOOK_SECONDS)


def endpoint_key(endpoint: Endpoint) -> str:
    """What gateways and control call it: ``project/name``."""
    return f"{endpoint.project or ''}/{endpoint.name}"


def _event(endpoint: Endpoint, scaling: RoleScaling, had: int) -> Event:
    up = scaling.wanted > had
    reason = "ScaledUp" if up else "ScaledDown" if scaling.wanted else "ScaledToZero"
    what = f"{scaling.role} engine".strip()
    version = endpoint.metadata.resource_version
    return Event(
        id=derived_id("evt", endpoint.metadata.uid, reason, scaling.role, version, scaling.wanted),
        time_ms=scaling.since_ms,
        level="info",
        reason=reason,
        message=f"from {had} to {counted(scaling.wanted, what)}: {scaling.message}",
        kind="Endpoint",
        name=endpoint.name,
        project=endpoint.project,
        data={"role": scaling.role, "from": had, "to": scaling.wanted, "why": scaling.reason},
    )


def _tell(endpoint: Endpoint, events: Sequence[Event]) -> None:
    for event in events:
        CHANGES.labels("up" if event.reason == "ScaledUp" else "down").inc()
        _log.info("scaled", endpoint=endpoint.name, project=endpoint.project, change=event.message)
