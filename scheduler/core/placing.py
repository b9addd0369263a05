"""Places for a whole gang, or none: every rank is put on a trial copy of the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scheduler.core.filters import Group, Judge, usable_slots
from scheduler.core.scoring import score
from scheduler.core.types import Assignment, DeviceView, NodeView, Policy, Request, RoleView, Share

Pool = dict[str, NodeView]


@dataclass(frozen=True)
class Placed:
    """A gang with all its ranks, and the pool with it on."""

    placement: tuple[Assignment, ...]
    pool: Pool


@dataclass(frozen=True)
class Stuck:
    """The role that found no place when ``fitted`` ranks of ``total`` had theirs."""

    role: RoleView
    fitted: int
    total: int


def place_gang(roles: Sequence[RoleView], pool: Pool, policy: Policy, judge: Judge) -> Placed | Stuck:
    """All ranks, hardest role first, so that a picky role is not robbed by one that could go anywhere."""
    trial = dict(pool)
    first_rank = _first_ranks(roles)
    total = sum(role.replicas for role in roles)
    placed: list[Assignment] = []
    for position, role in sorted(enumerate(roles), key=lambda item: _ease(item[1], pool, item[0], judge)):
        for replica in range(role.replicas):
            found = _pick(role.request, trial, policy, judge)
            if found is None:
                return Stuck(role, len(placed), total)
            node, group = found
            node, shares = _take(node, group, role.request)
            trial[node.name] = node
            placed.append(Assignment(role.name, replica, first_rank[position] + replica, node.name, shares))
    return Placed(tuple(sorted(placed, key=lambda a: a.rank)), trial)


def _first_ranks(roles: Sequence[RoleView]) -> list[int]:
    ranks, following = [], 0
    for role in roles:
        ranks.append(following)
        following += role.replicas
    return ranks


def _ease(role: RoleView, pool: Pool, position: int, judge: Judge) -> tuple[int, int, int]:
    slots = sum(
        usable_slots(device, role.request)
        for node in pool.values()
        for group in judge(node, role.request).groups
        for device in group
    )
    return (slots if role.request.count else 1 << 62, -role.request.count, position)


def _pick(request: Request, pool: Pool, policy: Policy, judge: Judge) -> tuple[NodeView, Group] | None:
    candidates = [
        (-score(node, group, request, policy), node.name, [(d.model, d.id) for d in group], node, group)
        for node in pool.values()
        for group in judge(node, request).groups
    ]
    if not candidates:
        return None
    best = min(candidates, key=lambda candidate: candidate[:3])
    return best[3], best[4]


def _take(node: NodeView, group: Group, request: Request) -> tuple[NodeView, tuple[Share, ...]]:
    """Give ``request.count`` slots of the group, fullest device first; the caller knows that they are
    there."""
    shares: list[Share] = []
    changed: dict[str, DeviceView] = {}
    for device in sorted(group, key=lambda d: (usable_slots(d, request) or 1 << 30, d.index, d.id)):
        count = min(usable_slots(device, request), request.count - len(shares))
        if count:
            memory = request.memory_bytes if device.shared else device.memory_bytes
            shares += [Share(device.id, device.index, device.vendor, device.model, memory)] * count
            changed[device.id] = replace(
                device,
                used_slots=device.used_slots + count,
                used_memory_bytes=device.used_memory_bytes + memory * count,
            )
    return replace(node, devices=tuple(changed.get(d.id, d) for d in node.devices)), tuple(shares)


def ideal_pool(pool: Pool) -> Pool:
    """The pool as if nothing ran on it and nothing were lost, cordoned or broken."""
    return {
        name: replace(
            node,
            alive=True,
            cordoned=False,
            devices=tuple(
                replace(device, used_slots=0, used_memory_bytes=0, healthy=True) for device in node.devices
            ),
        )
        for name, node in pool.items()
    }
