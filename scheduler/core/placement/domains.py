"""Sets of nodes that a gang is tried on, the closest together first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from scheduler.core.model.types import Policy, WorkloadView
from scheduler.core.pool.pool import Pool
from scheduler.core.pool.states import Shape

DOMAINS_TRIED = 3
"""How many domains of each level a gang is tried in before a wider one."""
LARGEST_GANG = 64
"""Gangs of more ranks take what room there is: on many nodes it is not worth looking for the fewest."""

_Rooms = list[npt.NDArray[np.int64]]
"""Per role, how many of its ranks each node takes."""


class Domains:
    """The topology as one gang sees it: which nodes have room for its ranks, and what they have in common.
    ``apart``: its ranks must not share nodes; ``among``: it may use only these (None = all);
    ``hidden``: nodes that are kept out of ordinary placement, too."""

    def __init__(
        self,
        workload: WorkloadView,
        pool: Pool,
        policy: Policy,
        shapes: Sequence[Shape],
        *,
        apart: bool,
        among: frozenset[int] | None,
        hidden: bool,
    ) -> None:
        self._pool = pool
        self._roles = workload.roles
        self._affinity = workload.affinity
        self._topology = policy.topology
        self._ranks = sum(role.replicas for role in workload.roles)
        self._rooms: _Rooms = [pool.ranks_per_node(shape, hidden=hidden) for shape in shapes]
        if among is not None:
            self._rooms = [only(room, sorted(among)) for room in self._rooms]
        if apart:
            self._rooms = [np.minimum(room, 1) for room in self._rooms]

    def scopes(self) -> Iterator[Sequence[int] | None]:
        """One node that takes all of the gang, the fullest such first; one domain of each level, from the
        closest level on, the fullest first; the fewest domains together; at last all nodes (None), or with
        ``affinity.same`` all nodes of one domain, the fullest first."""
        same = self._affinity.same
        if not same:
            yield from self._inside(None, self._topology)
            yield None
            return
        levels = self._topology
        if same in levels:
            levels = levels[: levels.index(same)]
        for domain in self._with_room(same, self._rooms, least=True):
            yield from self._inside(domain, levels)
            yield domain

    def _inside(self, scope: Sequence[int] | None, levels: Sequence[str]) -> Iterator[Sequence[int]]:
        """Closer together than the nodes of the scope are (None = all nodes)."""
        if self._ranks < 2 or self._affinity.spread:
            return
        rooms = self._rooms if scope is None else [only(room, scope) for room in self._rooms]
        yield from self._nodes(rooms, levels)
        for level in levels:
            yield from self._with_room(level, rooms, least=False)
        if len(self._roles) == 1 and self._ranks <= LARGEST_GANG and not self._affinity.slice_same:
            fewest = self._fewest(rooms[0], levels)
            if fewest is not None:
                yield fewest
        if any(role.least < role.replicas for role in self._roles):
            for level in levels:
                yield from self._with_room(level, rooms, least=True)

    def _nodes(self, rooms: _Rooms, levels: Sequence[str]) -> Iterator[Sequence[int]]:
        """Of nodes that are left with as little, those in the fullest domains come first."""
        spare = np.min([room - role.replicas for role, room in zip(self._roles, rooms, strict=True)], axis=0)
        able, topology = np.flatnonzero(spare >= 0), self._pool.topology
        ties: list[npt.NDArray[np.int64]] = []
        for level in levels if len(able) > 1 else ():
            of_node, members = topology.domains(level)
            if members:
                around = np.append(topology.sums(level, rooms[0]), np.iinfo(np.int64).max)
                ties.append(around[of_node[able]])
        order = np.lexsort((able, *reversed(ties), spare[able]))
        yield from ([number] for number in able[order][:DOMAINS_TRIED].tolist())

    def _with_room(self, level: str, rooms: _Rooms, *, least: bool) -> Iterator[Sequence[int]]:
        """Domains that may take the gang, or at least its least ranks, the tightest first, so that large gaps
        stay whole."""
        topology = self._pool.topology
        members = topology.domains(level)[1]
        if not members:
            return
        spare = np.full(len(members), np.iinfo(np.int64).max, dtype=np.int64)
        for role, room in zip(self._roles, rooms, strict=True):
            wanted = role.least if least else role.replicas
            spare = np.minimum(spare, topology.sums(level, room) - wanted)
        yield from (members[number] for number in _tightest(spare))

    def _fewest(self, room: npt.NDArray[np.int64], levels: Sequence[str]) -> Sequence[int] | None:
        """The nodes of as few domains as can be, from the widest level to the closest and then node by node,
        for all ranks that there is room for; None where that is not enough."""
        role, topology = self._roles[0], self._pool.topology
        wanted = min(role.replicas, int(room.sum()))
        if wanted < role.least:
            return None
        for level in reversed(levels):
            of_node, members = topology.domains(level)
            if not members or (room[of_node < 0] > 0).any():
                continue
            chosen = _cover(topology.sums(level, room), wanted)
            room = only(room, [number for domain in chosen for number in members[domain]])
        return sorted(_cover(room, wanted))


def only(room: npt.NDArray[np.int64], nodes: Sequence[int]) -> npt.NDArray[np.int64]:
    """The room on these nodes alone."""
    inside = np.zeros_like(room)
    inside[list(nodes)] = room[list(nodes)]
    return inside


def _tightest(spare: npt.NDArray[np.int64]) -> list[int]:
    able = np.flatnonzero(spare >= 0)
    found: list[int] = able[np.argsort(spare[able], kind="stable")][:DOMAINS_TRIED].tolist()
    return found


def _cover(room: npt.NDArray[np.int64], wanted: int) -> list[int]:
    """As few as can be that have room for so many: the largest, and in the end the smallest that takes the
    rest (the rule of best fit of Kueue's topology-aware scheduling)."""
    order = np.argsort(-room, kind="stable")
    chosen: list[int] = []
    for number in order.tolist():
        if room[number] >= wanted:
            rest = order[len(chosen) :]
            able = rest[room[rest] >= wanted]
            chosen.append(int(able[np.argmin(room[able])]))
            break
        chosen.append(number)
        wanted -= int(room[number])
    return chosen
