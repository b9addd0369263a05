"""Placements as the store has them and as the core has them."""

from __future__ import annotations

from common.resources import Workload
from common.resources.workload import Grant, RankPlacement
from scheduler.core.types import Assignment, Placement, Share


def assignment_view(rank: RankPlacement) -> Assignment:
    shares = tuple(share_view(grant) for grant in rank.grants)
    return Assignment(
        rank.role, rank.replica, rank.rank, rank.node, shares, rank.cpu_millis, rank.host_memory_bytes
    )


def share_view(grant: Grant) -> Share:
    return Share(grant.device, grant.index, grant.vendor, grant.model, grant.memory_bytes, grant.millis)


def rank_placement(assignment: Assignment) -> RankPlacement:
    """A rank that is to be started there."""
    grants = [
        Grant(
            device=share.device,
            index=share.index,
            vendor=share.vendor,
            model=share.model,
            memory_bytes=share.memory_bytes,
            millis=share.millis,
        )
        for share in assignment.shares
    ]
    return RankPlacement(
        role=assignment.role,
        replica=assignment.replica,
        rank=assignment.rank,
        node=assignment.node,
        grants=grants,
        cpu_millis=assignment.cpu_millis,
        host_memory_bytes=assignment.host_memory_bytes,
    )


def placement_of(workload: Workload) -> Placement:
    """Where its current gang is."""
    return tuple(assignment_view(rank) for rank in workload.status.ranks)


def planned_of(workload: Workload) -> Placement:
    """Where its successor is or will be."""
    successor = workload.status.next
    return tuple(assignment_view(rank) for rank in successor.ranks) if successor else ()


def held_by(workload: Workload) -> Placement:
    """All that it keeps from others: its gang, and its successor, as far as that is more."""
    current, planned = placement_of(workload), planned_of(workload)
    beside = workload.status.next is not None and workload.status.next.beside
    return current + (planned if beside else beyond(planned, current))


def beyond(planned: Placement, current: Placement) -> Placement:
    """What of ``planned`` is not covered by what is held now: per node and device, the part that is more."""
    left: dict[str, list[Share]] = {}
    host: dict[str, list[int]] = {}
    for assignment in current:
        for share in assignment.shares:
            left.setdefault(share.device, []).append(share)
        cpu = host.setdefault(assignment.node, [0, 0])
        cpu[0] += assignment.cpu_millis
        cpu[1] += assignment.host_memory_bytes
    return tuple(_more(assignment, left, host.setdefault(assignment.node, [0, 0])) for assignment in planned)


def _more(wanted: Assignment, left: dict[str, list[Share]], host: list[int]) -> Assignment:
    shares = []
    for share in wanted.shares:
        held = left.get(share.device)
        known = held.pop() if held else None
        millis = share.millis - (known.millis if known else 0)
        memory = share.memory_bytes - (known.memory_bytes if known else 0)
        if millis > 0 or memory > 0:
            shares.append(share._replace(millis=max(0, millis), memory_bytes=max(0, memory)))
    cpu, memory_bytes = min(host[0], wanted.cpu_millis), min(host[1], wanted.host_memory_bytes)
    host[0], host[1] = host[0] - cpu, host[1] - memory_bytes
    return wanted._replace(
        shares=tuple(shares),
        cpu_millis=wanted.cpu_millis - cpu,
        host_memory_bytes=wanted.host_memory_bytes - memory_bytes,
    )
