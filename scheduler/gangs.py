"""Gangs on nodes follow the placements of workloads: what is missing is started, what nobody wants is
stopped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.auth import engine_key
from common.errors import Conflict
from common.guard import Guard
from common.labels import IDENTITY_LABEL, KEY_LABEL, MODEL_LABEL
from common.loop import in_turns
from common.resources import Workload
from common.resources.workload import RankPlacement
from common.settings import Settings
from common.telemetry import get_logger
from scheduler.core.lifecycle.lifecycle import PLACED
from scheduler.metering import DeviceMeter
from scheduler.ports import Billing, Fabric, GangOrder, GangRecord, HostPort, RankOrder
from scheduler.translate.observed import Observed
from scheduler.translate.views import World, is_group

STOP_PAUSE_SECONDS = 10.0
"""The longest pause before a gang that holds devices and that nobody wants is told to end again."""
_log = get_logger(__name__)


@dataclass(frozen=True)
class Gang:
    """A gang that should run. ``beside``: the attempt that it will take over from."""

    attempt: int
    digest: str
    ranks: tuple[RankPlacement, ...]
    beside: int | None = None


def gangs_of(workload: Workload) -> list[Gang]:
    """Those that should run now: the current one, and a successor that runs beside it."""
    status = workload.status
    if status.phase not in PLACED or workload.spec.suspend or is_group(workload):
        return []
    gangs = [Gang(status.attempt, status.placed_digest, tuple(status.ranks))]
    if status.next is not None and status.next.beside:
        ranks = tuple(status.next.ranks)
        gangs.append(Gang(status.next.attempt, status.next.digest, ranks, status.attempt))
    return gangs


def is_wanted(gang: GangRecord, node: str, world: World) -> bool:
    """Whether this very gang should run on that node."""
    workload = world.workloads.get(gang.uid)
    if workload is None:
        return False
    return any(
        wanted.attempt == gang.attempt and any(rank.node == node for rank in wanted.ranks)
        for wanted in gangs_of(workload)
    )


class GangKeeper:
    """Starts and stops gangs. A node that fails to answer is tried again in the next pass."""

    def __init__(self, fabric: Fabric, settings: Settings) -> None:
        self._fabric = fabric
        self._settings = settings

    async def start_missing(self, workload: Workload, gang: Gang, world: World, observed: Observed) -> bool:
        """Ensure the gang on each of its nodes, that of rank 0 first. Returns whether all of it runs now.

        Raises what the node's agent raises, but for ``Conflict``: another attempt has not ended there yet.
        """
        master = None
        nodes = list(dict.fromkeys(rank.node for rank in sorted(gang.ranks, key=lambda rank: rank.rank)))
        for name in nodes:
            node = observed.nodes.get(name)
            if node is None or node.state != "Alive":
                return False
            record = observed.gang(name, workload.metadata.uid, gang.attempt)
            if record is None:
                order = self._order(workload, gang, world, name, master)
                try:
                    record = await self._fabric.ensure_gang(name, order)
                except Conflict as error:
                    _log.debug("gang not started yet", workload=workload.key, node=name, error=error.message)
                    return False
            master = master or record.master
        return True

    def _order(
        self, workload: Workload, gang: Gang, world: World, node: str, master: HostPort | None
    ) -> GangOrder:
        here = sorted((rank for rank in gang.ranks if rank.node == node), key=lambda rank: rank.rank)
        project = world.projects[workload.project or ""]
        billing = Billing(
            tenant=project.spec.tenant,
            project=project.name,
            workload=workload.name,
            model=workload.metadata.labels.get(MODEL_LABEL, ""),
            model_identity=workload.metadata.labels.get(IDENTITY_LABEL, ""),
            key=workload.metadata.labels.get(KEY_LABEL, ""),
            interval_seconds=self._settings.scheduler.usage_interval_seconds,
        )
        return GangOrder(
            uid=workload.metadata.uid,
            attempt=gang.attempt,
            world_size=len(gang.ranks),
            digest=gang.digest,
            billing=billing,
            ranks=tuple(_rank_order(workload, rank) for rank in here),
            master=master,
            engine_key=engine_key(self._settings.internal_token) if _is_engine(workload) else "",
            beside=gang.beside,
            always_ranked=workload.metadata.owner is None or workload.metadata.owner.kind == "Job",
        )

    async def stop_unwanted(
        self, uids: Iterable[str], world: World, observed: Observed, meter: DeviceMeter, guard: Guard
    ) -> None:
        """Stop gangs of these that nobody wants; forget them once they have ended and their time is
        posted."""
        async for uid in in_turns(uids):
            for node, gang in observed.gangs_of(uid):
                key = ("stop", gang.uid, gang.attempt, node.name)
                if node.state == "Alive" and guard.may_try(key, longest_seconds=STOP_PAUSE_SECONDS):
                    with guard.item("Gang", key):
                        await self._stop_unwanted(node.name, gang, world, meter)

    async def _stop_unwanted(self, node: str, gang: GangRecord, world: World, meter: DeviceMeter) -> None:
        if is_wanted(gang, node, world):
            return
        if gang.alive and not gang.stopping:
            grace = grace_seconds(world.workloads.get(gang.uid), self._settings)
            await self._fabric.stop_gang(node, gang.uid, gang.attempt, grace)
        elif not gang.alive and meter.is_settled(node, gang):
            await self._fabric.forget_gang(node, gang.uid, gang.attempt)
            meter.drop(node, gang)


def grace_seconds(workload: Workload | None, settings: Settings) -> float:
    """Between SIGTERM and SIGKILL; that of the settings where the workload says nothing or is deleted."""
    asked = workload.spec.grace_seconds if workload is not None else None
    return settings.scheduler.stop_grace_seconds if asked is None else asked


def _is_engine(workload: Workload) -> bool:
    """Whether an Endpoint made it: nobody but the endpoint controller can set an owner."""
    owner = workload.metadata.owner
    return owner is not None and owner.kind == "Endpoint"


def _rank_order(workload: Workload, placed: RankPlacement) -> RankOrder:
    role = next(role for role in workload.spec.roles if role.name == placed.role)
    return RankOrder(
        rank=placed.rank,
        role=role.name,
        replica=placed.replica,
        command=tuple(role.command),
        env=dict(role.env),
        ports=tuple(role.ports),
        grants=tuple(placed.grants),
        readiness=role.readiness,
        sandbox=role.sandbox,
        session=role.session,
    )
