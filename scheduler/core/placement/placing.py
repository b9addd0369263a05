"""Places for a whole gang, or none. What is placed stays on the pool; the caller rolls back what it does not
want."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from scheduler.core.model.types import Assignment, Placement, Policy, RoleView, Share, WorkloadView
from scheduler.core.placement.neighbours import Neighbours
from scheduler.core.pool.layout import ModelKey
from scheduler.core.pool.options import Option
from scheduler.core.pool.pool import Pool
from scheduler.core.pool.scoring import SCALE
from scheduler.core.pool.states import Shape

DOMAINS_TRIED = 3
"""How many domains of each level a gang is tried in before a wider one."""


LARGE_RANKS = 8
"""From so many ranks on it pays to count the room before trying."""


@dataclass(frozen=True)
class Stuck:
    """The role that found no place when ``fitted`` ranks of ``total`` had theirs. ``scattered``: they fit,
    but not all in one domain (``affinity.same``) or on nodes apart."""

    role: RoleView
    fitted: int
    total: int
    scattered: bool = False


@dataclass(frozen=True)
class Bounds:
    """What limits a placement: ``models`` that the quota leaves (None = any), ``only`` these nodes (hidden
    ones too)."""

    models: tuple[ModelKey, ...] | None = None
    only: tuple[int, ...] | None = None


ANYWHERE = Bounds()


@dataclass
class _Gang:
    """One placement under way."""

    workload: WorkloadView
    pool: Pool
    policy: Policy
    bounds: Bounds
    shapes: list[Shape]
    bonus: dict[int, int]
    domain: Sequence[int] | None = None
    found: list[tuple[int, int, tuple[Share, ...]]] | None = None
    apart: bool = False
    kept_apart: list[int] = field(default_factory=list)


def place_gang(
    workload: WorkloadView,
    pool: Pool,
    policy: Policy,
    neighbours: Neighbours | None = None,
    bounds: Bounds = ANYWHERE,
) -> Placement | Stuck:
    """All ranks of the gang (of elastic roles at least the least), or ``Stuck`` with the pool as it was."""
    if _plain(workload):
        return _place_one(workload, pool, pool.shape(workload.roles[0].request, bounds.models), bounds)
    shapes = [pool.shape(role.request, bounds.models) for role in workload.roles]
    gang = _Gang(workload, pool, policy, bounds, shapes, _bonus(workload, pool, policy, neighbours))
    gang.apart = _apart_from_itself(workload)
    mark = pool.mark()
    closed = neighbours.closed_to(workload) if neighbours else set()
    barred = [n for n in map(pool.number, closed) if n is not None and not pool.is_hidden(n)]
    pool.hide(barred)
    result = _in_domains(gang)
    if isinstance(result, Stuck):
        pool.rollback(mark)
    else:
        pool.unhide([*barred, *gang.kept_apart])
    return result


def _plain(workload: WorkloadView) -> bool:
    """One rank that has no wishes about its surroundings."""
    affinity, role = workload.affinity, workload.roles[0]
    wishes = affinity.data or affinity.near or affinity.apart or workload.labels
    return len(workload.roles) == 1 and role.replicas == 1 and not wishes


def _place_one(workload: WorkloadView, pool: Pool, shape: Shape, bounds: Bounds) -> Placement | Stuck:
    role = workload.roles[0]
    if bounds.only is None:
        found = pool.find(shape)
    else:
        among = pool.find_among(shape, bounds.only, hidden=True)
        found = among[:2] if among else None
    if found is None:
        return Stuck(role, 0, 1)
    number, option = found
    shares, request = pool.take(shape, number, option), role.request
    node = pool.view(number).name
    return (Assignment(role.name, 0, 0, node, shares, request.cpu_millis, request.host_memory_bytes),)


def _bonus(
    workload: WorkloadView, pool: Pool, policy: Policy, neighbours: Neighbours | None
) -> dict[int, int]:
    """Points for nodes that have the data or the company that it wants."""
    affinity, total = workload.affinity, sum(weight for _, weight in policy.weights) or 1.0
    bonus: dict[int, int] = {}
    for data in affinity.data:
        points = round(SCALE * policy.data_weight / total / len(affinity.data))
        for number in pool.geography.holders(data):
            bonus[number] = bonus.get(number, 0) + points
    if affinity.near and neighbours:
        points = round(SCALE * policy.near_weight / total)
        for node in neighbours.near(affinity.near):
            near = pool.number(node)
            if near is not None:
                bonus[near] = bonus.get(near, 0) + points
    return bonus


def _apart_from_itself(workload: WorkloadView) -> bool:
    return bool(set(workload.affinity.apart) & set(workload.labels))


def _in_domains(gang: _Gang) -> Placement | Stuck:
    """In the closest domain that takes the whole gang; where none does, anywhere (unless ``same`` forbids
    it)."""
    same, ranks = gang.workload.affinity.same, sum(role.least for role in gang.workload.roles)
    stuck: Stuck | None = None
    levels = (same,) if same else gang.policy.topology if ranks > 1 and gang.bounds.only is None else ()
    for level in levels:
        for domain in _domains_with_room(gang, level):
            gang.domain = domain
            result = _place(gang)
            if not isinstance(result, Stuck):
                return result
            stuck = result
    gang.domain = gang.bounds.only
    if not same:
        return _place(gang)
    if stuck is not None:
        return stuck
    mark = gang.pool.mark()
    anywhere = _place(gang)
    gang.pool.rollback(mark)
    total = sum(role.least for role in gang.workload.roles)
    return anywhere if isinstance(anywhere, Stuck) else Stuck(gang.workload.roles[0], total, total, True)


def _domains_with_room(gang: _Gang, level: str) -> Iterable[Sequence[int]]:
    """Domains that may take the gang, the tightest first, so that large gaps stay whole."""
    geography = gang.pool.geography
    members = geography.domains(level)[1]
    if not members:
        return ()
    spare = np.full(len(members), np.iinfo(np.int64).max, dtype=np.int64)
    for role, shape in zip(gang.workload.roles, gang.shapes, strict=True):
        room = geography.sums(level, gang.pool.ranks_per_node(shape))
        spare = np.minimum(spare, room - role.least)
    able = np.flatnonzero(spare >= 0)
    tightest = able[np.argsort(spare[able], kind="stable")][:DOMAINS_TRIED]
    return [members[domain] for domain in tightest]


def _place(gang: _Gang) -> Placement | Stuck:
    """Every role's least first, hardest role first; then what elastic roles can still have."""
    roles, pool, mark = gang.workload.roles, gang.pool, gang.pool.mark()
    gang.found = []
    total = sum(role.least for role in roles)
    short = _short(gang, total)
    if short is not None:
        return short
    hardest = sorted(range(len(roles)), key=lambda i: _ease(gang, i)) if len(roles) > 1 else [0]
    for index in hardest:
        for _ in range(roles[index].least):
            if not _place_rank(gang, index):
                fitted = len(gang.found)
                pool.rollback(mark)
                gang.kept_apart.clear()
                return Stuck(roles[index], fitted, total)
    for index in hardest:
        for _ in range(roles[index].replicas - roles[index].least):
            if not _place_rank(gang, index):
                break
    return _numbered(gang)


def _short(gang: _Gang, total: int) -> Stuck | None:
    """Whether a large role has more ranks than all nodes together could take."""
    for role, shape in zip(gang.workload.roles, gang.shapes, strict=True):
        if role.least >= LARGE_RANKS and gang.domain is None:
            room = int(gang.pool.ranks_per_node(shape).sum())
            if room < role.least:
                return Stuck(role, room, total)
    return None


def _ease(gang: _Gang, index: int) -> tuple[int, int, int]:
    role = gang.workload.roles[index]
    if not role.request.count:
        return 1 << 62, 0, index
    return int(gang.pool.ranks_per_node(gang.shapes[index]).sum()), -role.request.count, index


def _place_rank(gang: _Gang, index: int) -> bool:
    shape = gang.shapes[index]
    found = _find(gang, shape)
    if found is None or gang.found is None:
        return False
    number, option = found
    gang.found.append((index, number, gang.pool.take(shape, number, option)))
    if gang.apart and not gang.pool.is_hidden(number):
        gang.pool.hide([number])
        gang.kept_apart.append(number)
    return True


def _find(gang: _Gang, shape: Shape) -> tuple[int, Option] | None:
    pool, spread = gang.pool, gang.workload.affinity.spread
    if gang.domain is not None:
        hidden = gang.bounds.only is not None
        used = {number for _, number, _ in gang.found or ()} if gang.apart else ()
        left = [number for number in gang.domain if number not in used] if used else gang.domain
        among = pool.find_among(shape, left, hidden=hidden, bonus=gang.bonus)
        return among[:2] if among else None
    if spread:
        return _find_spread(gang, shape, spread)
    best = pool.find(shape)
    if gang.bonus:
        liked = pool.find_among(shape, sorted(gang.bonus), bonus=gang.bonus)
        if liked and (best is None or liked[2] > best[1].score):
            return liked[:2]
    return best


def _find_spread(gang: _Gang, shape: Shape, key: str) -> tuple[int, Option] | None:
    """In the domain that has the fewest of the gang's ranks so far."""
    of_node, members = gang.pool.geography.domains(key)
    held = [0] * len(members)
    for _, number, _ in gang.found or ():
        if of_node[number] >= 0:
            held[of_node[number]] += 1
    for domain in sorted(range(len(members)), key=lambda d: (held[d], d)):
        among = gang.pool.find_among(shape, members[domain], bonus=gang.bonus)
        if among:
            return among[:2]
    return gang.pool.find(shape)


def _numbered(gang: _Gang) -> Placement:
    """Ranks count through the roles in their order."""
    placement: list[Assignment] = []
    for index, role in enumerate(gang.workload.roles):
        mine = [(number, shares) for i, number, shares in gang.found or () if i == index]
        for replica, (number, shares) in enumerate(mine):
            node, request = gang.pool.view(number).name, role.request
            placement.append(
                Assignment(
                    role.name,
                    replica,
                    len(placement),
                    node,
                    shares,
                    request.cpu_millis,
                    request.host_memory_bytes,
                )
            )
    return tuple(placement)
