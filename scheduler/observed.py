"""What one look at the fabric shows, arranged for questions about workloads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from common.resources import Node, Workload
from common.resources.workload import Grant, RankPlacement, WorkloadRole
from scheduler.core.lifecycle import HOLDING, Rank, Seen
from scheduler.ports import GangRecord, NodeObservation, RankRecord
from scheduler.views import roles_digest


class Observed:
    """Nodes by name and gangs by identity."""

    def __init__(self, nodes: Sequence[NodeObservation]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self._gangs = {(node.name, gang.uid, gang.attempt): gang for node in nodes for gang in node.gangs}
        self._alive = {gang.uid for gang in self._gangs.values() if gang.alive}

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

    def lingering(self, holding: set[str]) -> list[Grant]:
        """Grants of live processes whose workload (not in ``holding``) no longer holds places."""
        return [
            grant
            for gang in self._gangs.values()
            if gang.uid not in holding
            for rank in gang.ranks
            if rank.state != "Exited"
            for grant in rank.grants
        ]

    def rank_record(self, uid: str, attempt: int, placed: RankPlacement) -> RankRecord | None:
        gang = self.gang(placed.node, uid, attempt)
        return next((rank for rank in gang.ranks if rank.rank == placed.rank), None) if gang else None


def merge_ranks(workload: Workload, observed: Observed) -> list[RankPlacement]:
    """The workload's ranks as they are now.

    A rank that was started and is unknown to its (answering) node is lost: the node's agent was restarted.
    """
    return [_merge(workload, placed, observed) for placed in workload.status.ranks]


def _merge(workload: Workload, placed: RankPlacement, observed: Observed) -> RankPlacement:
    if placed.state in ("Exited", "Lost"):
        return placed
    node = observed.nodes.get(placed.node)
    if node is None or node.state == "Lost":
        return placed.model_copy(update={"state": "Lost"})
    record = observed.rank_record(workload.metadata.uid, workload.status.attempt, placed)
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
    workload: Workload, ranks: Iterable[RankPlacement], observed: Observed, nodes: dict[str, Node]
) -> Seen:
    """What the lifecycle is told about a workload."""
    roles = {role.name: role for role in workload.spec.roles}
    uid, status = workload.metadata.uid, workload.status
    return Seen(
        ranks=tuple(_rank_view(placed, roles.get(placed.role)) for placed in ranks),
        alive=observed.is_alive(uid),
        places_usable=all(_usable(placed, observed, nodes) for placed in status.ranks),
        spec_changed=status.phase in HOLDING and status.placed_digest != roles_digest(workload.spec.roles),
    )


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


def _usable(placed: RankPlacement, observed: Observed, nodes: dict[str, Node]) -> bool:
    node, resource = observed.nodes.get(placed.node), nodes.get(placed.node)
    if node is None or node.state == "Lost" or (resource is not None and resource.spec.cordoned):
        return False
    healthy = {device.id for device in node.devices if device.healthy}
    return node.state == "Silent" or all(grant.device in healthy for grant in placed.grants)
