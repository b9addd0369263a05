"""What one look at the fabric shows, arranged for questions about workloads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from common.resources import Node, Workload
from common.resources.workload import RankPlacement, WorkloadRole
from scheduler.core.lifecycle.lifecycle import HOLDING, Rank, Seen, Successor
from scheduler.core.model.types import Assignment
from scheduler.ports import GangRecord, NodeObservation, RankRecord
from scheduler.translate.placements import share_view
from scheduler.translate.views import roles_digest


class Observed:
    """Nodes by name and gangs by identity."""

    def __init__(self, nodes: Sequence[NodeObservation]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self._gangs = {(node.name, gang.uid, gang.attempt): gang for node in nodes for gang in node.gangs}
        self._alive = {gang.uid for gang in self._gangs.values() if gang.alive}
        self._told = {(gang.uid, gang.attempt) for gang in self._gangs.values() if gang.stopping}

    def gangs(self) -> Iterator[tuple[NodeObservation, GangRecord]]:
        """Every gang on a node that answers."""
        for node in self.nodes.values():
            if node.state == "Alive":
                for gang in node.gangs:
                    yield node, gang

    def gang(self, node: str, uid: str, attempt: int) -> GangRecord | None:
        return self._gangs.get((node, uid, attempt))

    def is_alive(self, uid: str) -> bool:
        """Whether any process of the workload is there, of any attempt."""
        return uid in self._alive

    def was_told(self, uid: str, attempt: int) -> bool:
        """Whether any part of that gang was told to end."""
        return (uid, attempt) in self._told

    def lingering(self, held: set[tuple[str, int]]) -> list[Assignment]:
        """Places of live processes of gangs, (uid, attempt), that do not hold places (any more)."""
        return [
            Assignment(rank.role, rank.replica, rank.rank, node, tuple(share_view(g) for g in rank.grants))
            for (node, uid, attempt), gang in self._gangs.items()
            if (uid, attempt) not in held
            for rank in gang.ranks
            if rank.state != "Exited"
        ]

    def rank_record(self, uid: str, attempt: int, placed: RankPlacement) -> RankRecord | None:
        gang = self.gang(placed.node, uid, attempt)
        return next((rank for rank in gang.ranks if rank.rank == placed.rank), None) if gang else None


def merge_ranks(
    workload: Workload, attempt: int, ranks: Iterable[RankPlacement], observed: Observed
) -> list[RankPlacement]:
    """The ranks of one attempt as they are now.

    A rank that was started and is unknown to its (answering) node is lost: the node's agent was restarted.
    """
    return [_merge(workload.metadata.uid, attempt, placed, observed) for placed in ranks]


def _merge(uid: str, attempt: int, placed: RankPlacement, observed: Observed) -> RankPlacement:
    if placed.state in ("Exited", "Lost"):
        return placed
    node = observed.nodes.get(placed.node)
    if node is None or node.state == "Lost":
        return placed.model_copy(update={"state": "Lost"})
    record = observed.rank_record(uid, attempt, placed)
    if record is None:
        forgotten = node.state == "Alive" and placed.state != "Assigned"
        return placed.model_copy(update={"state": "Lost"}) if forgotten else placed
    return placed.model_copy(
        update={
            "state": record.state,
            "address": record.address,
            "ports": dict(record.ports),
            "pid": record.pid,
            "exit_code": record.exit_code,
            "started_ms": record.started_ms,
            "finished_ms": record.finished_ms,
        }
    )


def seen_of(
    workload: Workload,
    ranks: Iterable[RankPlacement],
    planned: Iterable[RankPlacement],
    observed: Observed,
    nodes: dict[str, Node],
    default_grace_seconds: float,
) -> Seen:
    """What the lifecycle is told about a workload. ``planned``: the ranks of its successor, if it has one."""
    uid, status, spec = workload.metadata.uid, workload.status, workload.spec
    digest, grace = roles_digest(spec.roles), spec.grace_seconds
    return Seen(
        ranks=_rank_views(workload, ranks),
        alive=observed.is_alive(uid),
        places_usable=all(not _obstacle(placed, observed, nodes) for placed in status.ranks),
        spec_changed=status.phase in HOLDING and status.placed_digest != digest,
        may_surge=spec.rollout.max_surge > 0,
        told=observed.was_told(uid, status.attempt),
        leave=why_leave(workload, observed, nodes),
        grace_seconds=default_grace_seconds if grace is None else grace,
        successor=_successor(workload, planned, digest, observed, nodes),
    )


def _successor(
    workload: Workload,
    planned: Iterable[RankPlacement],
    digest: str,
    observed: Observed,
    nodes: dict[str, Node],
) -> Successor | None:
    successor = workload.status.next
    if successor is None:
        return None
    usable = all(not _obstacle(placed, observed, nodes) for placed in successor.ranks)
    ranks = _rank_views(workload, planned)
    return Successor(successor.attempt, ranks, successor.beside, usable and successor.digest == digest)


def _rank_views(workload: Workload, ranks: Iterable[RankPlacement]) -> tuple[Rank, ...]:
    roles = {role.name: role for role in workload.spec.roles}
    return tuple(_rank_view(placed, roles.get(placed.role)) for placed in ranks)


def _rank_view(placed: RankPlacement, role: WorkloadRole | None) -> Rank:
    return Rank(
        rank=placed.rank,
        role=placed.role,
        node=placed.node,
        state=placed.state,
        started_ms=placed.started_ms,
        exit_code=placed.exit_code,
        start_timeout_seconds=role.readiness.start_timeout_seconds if role and role.readiness else None,
    )


def why_leave(workload: Workload, observed: Observed, nodes: dict[str, Node]) -> str:
    """Why a gang that runs cannot stay, in words; empty while it can. Where every rank has a readiness probe,
    a drained node is left by way of a successor."""
    for placed in workload.status.ranks:
        fault = _broken_device(placed, observed)
        if fault:
            return fault
    if is_drained(workload, nodes) and not is_probed(workload):
        return "its node is drained"
    return ""


def _broken_device(placed: RankPlacement, observed: Observed) -> str:
    node = observed.nodes.get(placed.node)
    if node is None or node.state != "Alive":
        return ""
    faults = {device.id: device.fault or "faulty" for device in node.devices if not device.healthy}
    broken = next((grant for grant in placed.grants if grant.device in faults), None)
    if broken is None:
        return ""
    return f"{broken.vendor} device {broken.index} of {placed.node} is broken: {faults[broken.device]}"


def is_probed(workload: Workload) -> bool:
    """Whether it can be told of every rank when it is ready."""
    return all(role.readiness is not None for role in workload.spec.roles)


def is_drained(workload: Workload, nodes: dict[str, Node]) -> bool:
    """Whether any of its ranks is on a node that is to be drained."""
    return any(rank.node in nodes and nodes[rank.node].spec.drain for rank in workload.status.ranks)


def _obstacle(placed: RankPlacement, observed: Observed, nodes: dict[str, Node]) -> bool:
    """Whether nothing new may be started at that place."""
    node, resource = observed.nodes.get(placed.node), nodes.get(placed.node)
    if node is None or node.state == "Lost":
        return True
    if resource is not None and (resource.spec.cordoned or resource.spec.drain):
        return True
    healthy = {device.id for device in node.devices if device.healthy}
    return node.state != "Silent" and any(grant.device not in healthy for grant in placed.grants)
