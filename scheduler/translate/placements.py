"""Placements as the store has them and as the core has them."""

from __future__ import annotations

from collections.abc import Iterator

from common.resources import Workload
from common.resources.workload import Grant, RankPlacement
from scheduler.core.model.types import Assignment, Placement, Share

_Amounts = dict[tuple[str, str], list[int]]
"""Per node and device (empty: the host itself) the millis and the memory that are held."""


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


def nominated_of(workload: Workload) -> Placement:
    """Where places were cleared for it, while it is as it was then."""
    nomination = workload.status.nominated
    if nomination is None or nomination.generation != workload.metadata.generation:
        return ()
    return tuple(assignment_view(rank) for rank in nomination.ranks)


def held_by(workload: Workload) -> Placement:
    """All that it keeps from others: its gang, and its successor, as far as that is more."""
    current, planned = placement_of(workload), planned_of(workload)
    beside = workload.status.next is not None and workload.status.next.beside
    return current + (planned if beside else beyond(planned, current))


def beyond(planned: Placement, current: Placement) -> Placement:
    """What of ``planned`` is not covered by what is held now: per device and node, the part that is more."""
    left: _Amounts = {}
    for assignment in current:
        for key, millis, memory_bytes in _parts(assignment):
            held = left.setdefault(key, [0, 0])
            held[0] += millis
            held[1] += memory_bytes
    more = (_more(assignment, left) for assignment in planned)
    return tuple(one for one in more if one.shares or one.cpu_millis or one.host_memory_bytes)


def _parts(assignment: Assignment) -> Iterator[tuple[tuple[str, str], int, int]]:
    """Millis and memory of each device, and of the host."""
    for share in assignment.shares:
        yield (assignment.node, share.device), share.millis, share.memory_bytes
    yield (assignment.node, ""), assignment.cpu_millis, assignment.host_memory_bytes


def _more(wanted: Assignment, left: _Amounts) -> Assignment:
    def beyond_held(key: str, millis: int, memory_bytes: int) -> tuple[int, int]:
        held = left.get((wanted.node, key), [0, 0])
        covered = min(held[0], millis), min(held[1], memory_bytes)
        held[0], held[1] = held[0] - covered[0], held[1] - covered[1]
        return millis - covered[0], memory_bytes - covered[1]

    shares = []
    for share in wanted.shares:
        millis, memory_bytes = beyond_held(share.device, share.millis, share.memory_bytes)
        if millis or memory_bytes:
            shares.append(share._replace(millis=millis, memory_bytes=memory_bytes))
    cpu_millis, memory_bytes = beyond_held("", wanted.cpu_millis, wanted.host_memory_bytes)
    return wanted._replace(shares=tuple(shares), cpu_millis=cpu_millis, host_memory_bytes=memory_bytes)
