"""Places for a whole gang, or none. What is placed stays on the pool; the caller rolls back what it does not
want."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

from scheduler.core.model.types import Assignment, Placement, Policy, RoleView, Share, WorkloadView
from scheduler.core.placement.affinity import AffinityIndex
from scheduler.core.placement.domains import DOMAINS_TRIED, Domains, only
from scheduler.core.pool.layout import ModelKey
from scheduler.core.pool.options import Option
from scheduler.core.pool.pool import Pool
from scheduler.core.pool.scoring import SCALE
from scheduler.core.pool.states import Shape

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
    beside: frozenset[int] | None = None
    domain: Sequence[int] | None = None
    found: list[tuple[int, int, tuple[Share, ...]]] | None = None
    apart: bool = False
    kept_apart: list[int] = field(default_factory=list)


def place_gang(
    workload: WorkloadView,
    pool: Pool,
    policy: Policy,
    affinity_index: AffinityIndex | None = None,
    bounds: Bounds = ANYWHERE,
) -> Placement | Stuck:
    """All ranks of the gang (of elastic roles at least the least), or ``Stuck`` with the pool as it was."""
    if _plain(workload):
        return _place_one(workload, pool, pool.shape(workload.roles[0].request, bounds.models), bounds)
    shapes = [pool.shape(role.request, bounds.models) for role in workload.roles]
    gang = _Gang(workload, pool, policy, bounds, shapes, _bonus(workload, pool, policy, affinity_index))
    gang.apart = _apart_from_itself(workload)
    mark = pool.mark()
    closed = affinity_index.closed_to(workload) if affinity_index else set()
    barred = [n for n in map(pool.number, closed) if n is not None and not pool.is_hidden(n)]
    pool.hide(barred)
    beside = affinity_index.beside(workload) if affinity_index else None
    if beside is not None:
        gang.beside = frozenset(n for n in map(pool.number, beside) if n is not None)
    result = _in_domains(gang)
    if isinstance(result, Stuck):
        pool.rollback(mark)
    else:
        pool.unhide([*barred, *gang.kept_apart])
    return result


def _plain(workload: WorkloadView) -> bool:
    """One rank that has no wishes about its surroundings."""
    affinity, role = workload.affinity, workload.roles[0]
    wishes = affinity.data or affinity.near or affinity.apart or affinity.beside or affinity.same
    wishes = wishes or workload.labels
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
    workload: WorkloadView, pool: Pool, policy: Policy, affinity_index: AffinityIndex | None
) -> dict[int, int]:
    """Points for nodes that have the data or the company that it wants."""
    affinity, total = workload.affinity, sum(weight for _, weight in policy.weights) or 1.0
    bonus: dict[int, int] = {}
    for data in affinity.data:
        points = round(SCALE * policy.data_weight / total / len(affinity.data))
        for number in pool.topology.holders(data):
            bonus[number] = bonus.get(number, 0) + points
    if affinity.near and affinity_index:
        points = round(SCALE * policy.near_weight / total)
        for node in affinity_index.near(affinity.near):
            near = pool.number(node)
            if near is not None:
                bonus[near] = bonus.get(near, 0) + points
    return bonus


def _apart_from_itself(workload: WorkloadView) -> bool:
    return bool(set(workload.affinity.apart) & set(workload.labels))


def _in_domains(gang: _Gang) -> Placement | Stuck:
    """Where its ranks are closest together."""
    same, ranks = gang.workload.affinity.same, sum(role.replicas for role in gang.workload.roles)
    if (gang.bounds.only is not None or ranks == 1) and not same:
        gang.domain = _among(gang, gang.bounds.only)
        return _sliced(gang, _place(gang))
    domains = Domains(
        gang.workload,
        gang.pool,
        gang.policy,
        gang.shapes,
        apart=gang.apart,
        among=gang.beside,
        hidden=gang.bounds.only is not None,
    )
    stuck: Stuck | None = None
    for scope in domains.scopes():
        gang.domain = _among(gang, scope)
        result = _place(gang)
        if not isinstance(result, Stuck):
            return result
        stuck = result
    return _sliced(gang, stuck) if stuck is not None else _scattered(gang)


def _sliced(gang: _Gang, result: Placement | Stuck) -> Placement | Stuck:
    """Whether only its slices keep a gang from its places."""
    if not isinstance(result, Stuck) or not gang.workload.affinity.slice_same:
        return result
    role = result.role
    room = int(gang.pool.ranks_per_node(gang.pool.shape(role.request, gang.bounds.models)).sum())
    return replace(result, scattered=room >= role.least)


def _among(gang: _Gang, scope: Sequence[int] | None) -> Sequence[int] | None:
    """Those of the nodes (None = all) that it may use with regard to whom it must be beside."""
    if gang.beside is None:
        return scope
    return sorted(gang.beside.intersection(scope) if scope is not None else gang.beside)


def _scattered(gang: _Gang) -> Stuck:
    """Why no domain (``affinity.same``) has room: because nothing has, or because it is scattered."""
    gang.domain, mark = _among(gang, gang.bounds.only), gang.pool.mark()
    anywhere = _place(gang)
    gang.pool.rollback(mark)
    total = sum(role.least for role in gang.workload.roles)
    return anywhere if isinstance(anywhere, Stuck) else Stuck(gang.workload.roles[0], total, total, True)


def _place(gang: _Gang) -> Placement | Stuck:
    """Every role's least first, hardest role first; then what elastic roles can still have."""
    roles, pool, mark = gang.workload.roles, gang.pool, gang.pool.mark()
    gang.found = []
    total = sum(role.least for role in roles)
    short = _short(gang, total)
    if short is not None:
        return short
    hardest = sorted(range(len(roles)), key=lambda i: _ease(gang, i)) if len(roles) > 1 else [0]
    place = _place_slices if gang.workload.affinity.slice_same else _place_least
    for index in hardest:
        if not place(gang, index):
            fitted = len(gang.found)
            pool.rollback(mark)
            gang.kept_apart.clear()
            return Stuck(roles[index], fitted, total)
    _place_more(gang, hardest)
    return _numbered(gang)


def _place_least(gang: _Gang, index: int) -> bool:
    """The ranks that the role cannot do without."""
    return all(_place_rank(gang, index) for _ in range(gang.workload.roles[index].least))


def _place_slices(gang: _Gang, index: int) -> bool:
    """The same, slice by slice, each in one domain of ``affinity.slice_same``."""
    role, scope = gang.workload.roles[index], gang.domain
    left = role.least
    while left > 0:
        size = min(gang.workload.affinity.slice_size, left)
        if not any(_place_slice(gang, index, size, domain) for domain in _slice_domains(gang, index, left)):
            break
        left -= size
    gang.domain = scope
    return left <= 0


def _place_slice(gang: _Gang, index: int, size: int, domain: Sequence[int]) -> bool:
    """One slice, or nothing."""
    mark, found, apart = gang.pool.mark(), list(gang.found or ()), len(gang.kept_apart)
    before, gang.domain = gang.domain, domain
    if all(_place_rank(gang, index) for _ in range(size)):
        gang.domain = before
        return True
    gang.pool.rollback(mark)
    gang.domain, gang.found = before, found
    del gang.kept_apart[apart:]
    return False


def _slice_domains(gang: _Gang, index: int, left: int) -> list[Sequence[int]]:
    """Domains that a slice of the role may go to: the tightest that has room for all slices that are left,
    else the largest."""
    size, key = gang.workload.affinity.slice_size, gang.workload.affinity.slice_same
    room = gang.pool.ranks_per_node(gang.shapes[index])
    if gang.domain is not None:
        room = only(room, gang.domain)
    slices = gang.pool.topology.sums(key, room) // min(size, left)
    wanted = -(-left // size)
    order = sorted(
        (number for number, each in enumerate(slices.tolist()) if each),
        key=lambda number: (slices[number] < wanted, abs(int(slices[number]) - wanted), number),
    )
    members, inside = gang.pool.topology.domains(key)[1], set(gang.domain or ())
    return [
        [node for node in members[number] if gang.domain is None or node in inside]
        for number in order[:DOMAINS_TRIED]
    ]


def _place_more(gang: _Gang, order: Sequence[int]) -> None:
    """What elastic roles can still have, in proportion to what each could have."""
    roles, more = gang.workload.roles, dict[int, int]()
    growing = {index for index in order if roles[index].replicas > roles[index].least}
    while growing:
        index = min(
            (index for index in order if index in growing),
            key=lambda i: more.get(i, 0) / (roles[i].replicas - roles[i].least),
        )
        placed = _place_rank(gang, index)
        more[index] = more.get(index, 0) + 1
        if not placed or more[index] == roles[index].replicas - roles[index].least:
            growing.remove(index)


def _short(gang: _Gang, total: int) -> Stuck | None:
    """Whether a large role has more ranks than all nodes together could take."""
    for role, shape in zip(gang.workload.roles, gang.shapes, strict=True):
        if role.least >= LARGE_RANKS and gang.domain is None:
            room = int(gang.pool.ranks_per_node(shape).sum())
            if room < role.least:
                return Stuck(role, room, total)
    return None


def _ease(gang: _Gang, index: int) -> tuple[float, ...]:
    role = gang.workload.roles[index]
    if not role.request.count:
        return (inf,)
    return int(gang.pool.ranks_per_node(gang.shapes[index]).sum()), -role.request.count


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
    of_node, members = gang.pool.topology.domains(key)
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
