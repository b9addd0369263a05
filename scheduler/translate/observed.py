"""What one look at the fabric shows, arranged for questions about workloads."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any

from common.resources import Node, Workload
from common.resources.workload import RankPlacement, WorkloadRole
from scheduler.core.lifecycle.lifecycle import HOLDING, Rank, Seen, Successor
from scheduler.core.model.types import Assignment, Placement
from scheduler.ports import GangRecord, NodeObservation, RankRecord
from scheduler.translate.placements import share_view
from scheduler.translate.views import roles_digest


def _all_but(kind: type[Any], left_out: str) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*(one.name for one in fields(kind) if one.name != left_out))


_OF_NODE = _all_but(NodeObservation, "gangs")
_OF_GANG = _all_but(GangRecord, "ranks")
_OF_RANK = _all_but(RankRecord, "metered_spans")


@dataclass
class Moved:
    """What is not as it was at the last look: ``nodes``, of which anything has changed; ``places``, those of
    them where something may not run on any more or may again; ``uids`` of gangs that have changed. Marks of
    how much device time is posted are no change: this process has made them."""

    nodes: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)


class Observed:
    """Nodes by name and gangs by identity. May be kept from look to look. ``silent``: nodes that have not
    answered, but do not count as lost."""

    def __init__(self, nodes: Sequence[NodeObservation] = ()) -> None:
        self.nodes: dict[str, NodeObservation] = {}
        self.silent: set[str] = set()
        self._gangs: dict[str, dict[tuple[str, int], GangRecord]] = {}
        self._last: Sequence[NodeObservation] = ()
        self.follow(nodes)

    def follow(self, nodes: Sequence[NodeObservation], everything: bool = False) -> Moved:
        """Take a new look at all nodes; those that are not among them are gone. Costs what has changed.
        ``everything``: tell of all, moved or not."""
        known, moved = self.nodes, Moved()
        if everything:
            moved = Moved({*known}, {*known}, {*self._gangs})
        others, self._last = nodes if everything else _others(self._last, nodes), tuple(nodes)
        for node in others:
            before = known.get(node.name)
            if before is not node and before != node:
                self._put(before, node, moved)
        if len(known) > len(nodes):
            for name in known.keys() - {node.name for node in nodes}:
                self._put(known[name], None, moved)
        if everything:
            moved.nodes.update(known)
        return moved

    def _put(self, before: NodeObservation | None, node: NodeObservation | None, moved: Moved) -> None:
        """One of them is given."""
        name = node.name if node else before.name if before else ""
        if before is None or node is None or _OF_NODE(before) != _OF_NODE(node):
            moved.nodes.add(name)
        if before is None or node is None or _usable(before) != _usable(node):
            moved.places.add(name)
        old = {(gang.uid, gang.attempt): gang for gang in before.gangs} if before else {}
        new = {(gang.uid, gang.attempt): gang for gang in node.gangs} if node else {}
        for uid, attempt in old:
            if (uid, attempt) not in new:
                moved.nodes.add(name)
                moved.uids.add(uid)
                del self._gangs[uid][name, attempt]
                if not self._gangs[uid]:
                    del self._gangs[uid]
        for (uid, attempt), gang in new.items():
            known = old.get((uid, attempt))
            if known != gang:
                if known is None or not _is_marked(known, gang):
                    moved.nodes.add(name)
                    moved.uids.add(uid)
                self._gangs.setdefault(uid, {})[name, attempt] = gang
        if node is None:
            del self.nodes[name]
        else:
            self.nodes[name] = node
        if node is not None and node.state == "Silent":
            self.silent.add(name)
        else:
            self.silent.discard(name)

    def gangs(self) -> Iterator[tuple[NodeObservation, GangRecord]]:
        """Every gang on a node that answers."""
        for node in self.nodes.values():
            if node.state == "Alive":
                for gang in node.gangs:
                    yield node, gang

    def gangs_of(self, uid: str) -> list[tuple[NodeObservation, GangRecord]]:
        """The gangs of a workload, of any attempt, on whatever nodes."""
        return [(self.nodes[node], gang) for (node, _), gang in self._gangs.get(uid, {}).items()]

    def gang(self, node: str, uid: str, attempt: int) -> GangRecord | None:
        return self._gangs.get(uid, {}).get((node, attempt))

    def is_alive(self, uid: str) -> bool:
        """Whether any process of the workload is there, of any attempt."""
        return any(gang.alive for gang in self._gangs.get(uid, {}).values())

    def was_told(self, uid: str, attempt: int) -> bool:
        """Whether any part of that gang was told to end."""
        return any(gang.stopping for gang in self._gangs.get(uid, {}).values() if gang.attempt == attempt)

    def lingering(self, uid: str, held: Container[int]) -> Placement:
        """Places of live processes of the workload's gangs but of the attempts that are ``held``."""
        return tuple(
            Assignment(rank.role, rank.replica, rank.rank, node, tuple(share_view(g) for g in rank.grants))
            for (node, attempt), gang in self._gangs.get(uid, {}).items()
            if attempt not in held
            for rank in gang.ranks
            if rank.state != "Exited"
        )

    def rank_record(self, uid: str, attempt: int, placed: RankPlacement) -> RankRecord | None:
        gang = self.gang(placed.node, uid, attempt)
        return next((rank for rank in gang.ranks if rank.rank == placed.rank), None) if gang else None


def _others(before: Sequence[NodeObservation], now: Sequence[NodeObservation]) -> Sequence[NodeObservation]:
    """Those that are not the very same objects as before, at the same places; all where these are others."""
    if len(before) != len(now):
        return now
    return [node for node, old in zip(now, before, strict=True) if node is not old]


def _is_marked(old: GangRecord, new: GangRecord) -> bool:
    """Whether nothing but marks of posted device time is new."""
    same = _OF_GANG(old) == _OF_GANG(new) and len(old.ranks) == len(new.ranks)
    return same and all(_OF_RANK(a) == _OF_RANK(b) for a, b in zip(old.ranks, new.ranks, strict=True))


def _usable(node: NodeObservation) -> tuple[str, list[tuple[str, bool, str]]]:
    """What of a node decides whether a gang can be there."""
    return node.state, [(device.id, device.healthy, device.fault) for device in node.devices]


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
            "idle": record.idle or None,
        }
    )


def seen_of(
    workload: Workload,
    ranks: Iterable[RankPlacement],
    planned: Iterable[RankPlacement],
    observed: Observed,
    nodes: dict[str, Node],
    default_grace_seconds: float,
    barred: str = "",
) -> Seen:
    """What the lifecycle is told about a workload. ``planned``: the ranks of its successor, if it has one.
    ``barred``: why it may not run now."""
    uid, status, spec = workload.metadata.uid, workload.status, workload.spec
    digest, grace = roles_digest(spec.roles), spec.grace_seconds
    return Seen(
        ranks=_rank_views(workload, ranks, observed),
        alive=observed.is_alive(uid),
        places_usable=all(not _obstacle(placed, observed, nodes) for placed in status.ranks),
        spec_changed=status.phase in HOLDING and status.placed_digest != digest,
        may_surge=spec.rollout.max_surge > 0,
        told=observed.was_told(uid, status.attempt),
        leave=why_leave(workload, observed, nodes),
        barred=barred,
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
    ranks = _rank_views(workload, planned, observed)
    return Successor(successor.attempt, ranks, successor.beside, usable and successor.digest == digest)


def _rank_views(workload: Workload, ranks: Iterable[RankPlacement], observed: Observed) -> tuple[Rank, ...]:
    roles = {role.name: role for role in workload.spec.roles}
    return tuple(_rank_view(placed, roles.get(placed.role), observed) for placed in ranks)


def _rank_view(placed: RankPlacement, role: WorkloadRole | None, observed: Observed) -> Rank:
    node = observed.nodes.get(placed.node) if placed.state == "Lost" else None
    return Rank(
        rank=placed.rank,
        role=placed.role,
        node=placed.node,
        state=placed.state,
        started_ms=placed.started_ms,
        exit_code=placed.exit_code,
        start_timeout_seconds=role.readiness.start_timeout_seconds if role and role.readiness else None,
        forgotten=node is not None and node.state == "Alive",
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
