"""What must stay taken while those who give up their places are still there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from scheduler.core.model.types import Assignment, Placement, Share


@dataclass
class _NodeSum:
    """What is held on one node: millis and bytes per device."""

    shares: dict[str, Share] = field(default_factory=dict)
    cpu_millis: int = 0
    host_memory_bytes: int = 0

    def add(self, rank: Assignment) -> None:
        for share in rank.shares:
            known = self.shares.get(share.device)
            if known is not None:
                share = share._replace(
                    millis=share.millis + known.millis, memory_bytes=share.memory_bytes + known.memory_bytes
                )
            self.shares[share.device] = share
        self.cpu_millis += rank.cpu_millis
        self.host_memory_bytes += rank.host_memory_bytes


def residual_capacity(gone: Iterable[Assignment], come: Placement) -> Placement:
    """What ``gone`` ranks hold beyond what the ``come`` ones take in their stead, per device and host: not
    to be given to others before they have really left."""
    held, taken = _sums(gone), _sums(come)
    left: list[Assignment] = []
    for node, mine in held.items():
        theirs = taken.get(node, _NodeSum())
        shares = tuple(
            share
            for share in (_less(share, theirs.shares.get(share.device)) for share in mine.shares.values())
            if share.millis or share.memory_bytes
        )
        cpu = max(0, mine.cpu_millis - theirs.cpu_millis)
        host = max(0, mine.host_memory_bytes - theirs.host_memory_bytes)
        if shares or cpu or host:
            left.append(Assignment("", 0, 0, node, shares, cpu, host))
    return tuple(left)


def _sums(ranks: Iterable[Assignment]) -> dict[str, _NodeSum]:
    by_node: dict[str, _NodeSum] = {}
    for rank in ranks:
        by_node.setdefault(rank.node, _NodeSum()).add(rank)
    return by_node


def _less(share: Share, taken: Share | None) -> Share:
    if taken is None:
        return share
    return share._replace(
        millis=max(0, share.millis - taken.millis),
        memory_bytes=max(0, share.memory_bytes - taken.memory_bytes),
    )
