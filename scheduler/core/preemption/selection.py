"""Which nodes to clear for a gang: rank by rank the node that costs least, exact prices only where a bound
says that they may matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np

from scheduler.core.model.types import Assignment, Placement, RoleView, Share, WorkloadView
from scheduler.core.placement.placing import Bounds
from scheduler.core.placement.trial import Trial, millis_by_model
from scheduler.core.pool.layout import MEMORY_MASK, MIB, pack
from scheduler.core.pool.states import Shape
from scheduler.core.pool.usage import NodeUsage
from scheduler.core.preemption.candidates import Candidate, CandidatesByNode, price_of_rank
from scheduler.core.preemption.claims import Claim, VictimClass
from scheduler.core.preemption.clearing import Clearing, Item
from scheduler.core.preemption.tentative import TentativeEvictions, keep_apart

DOMAINS_TRIED = 8
"""In so many domains each slice of a gang is tried, the cheapest first."""

Key = tuple[Candidate, Assignment | None]
"""All of a workload, or a rank that it can spare."""
Takeable = Item[Key]


@dataclass
class Selection:
    """One attempt. ``domain``: the only nodes that may be used; ``shunned``: nodes with somebody whom the
    gang must keep apart from, and who has to go first; ``alone``: its ranks keep apart from each other;
    ``closed``: nodes that are out of the question; ``refused``: candidates, by node, that the claim does not
    reach together with others there; ``wanted``: ranks of the role at hand that have no node yet."""

    trial: Trial
    workload: WorkloadView
    bounds: Bounds
    claim: Claim
    kinds: set[VictimClass]
    evictions: TentativeEvictions
    by_node: CandidatesByNode
    domain: Sequence[int] | None = None
    shunned: set[int] = field(default_factory=set)
    alone: bool = False
    closed: set[int] = field(default_factory=set)
    refused: set[tuple[int, str]] = field(default_factory=set)
    wanted: int = 1
    found: list[Assignment] = field(default_factory=list)

    def run(self) -> Placement | None:
        """Take what it takes for the least of all roles, and put the gang there (with numbers that stand for
        nothing). None where that cannot be; the caller rolls back."""
        roles = self.workload.roles
        hardest = sorted(
            range(len(roles)), key=lambda i: (-roles[i].request.count * roles[i].request.share_millis, i)
        )
        seat = self._seat_slices if self.workload.affinity.slice_same else self._seat_least
        if not all(seat(roles[index]) for index in hardest):
            return None
        return tuple(self.found)

    def _seat_least(self, role: RoleView) -> bool:
        """All ranks that the role cannot do without."""
        return self._seat(_Contest(self, role, self.domain), role.least)

    def _seat(self, contest: _Contest, ranks: int) -> bool:
        for wanted in range(ranks, 0, -1):
            self.wanted = wanted
            if not contest.place_rank():
                return False
        return True

    def _seat_slices(self, role: RoleView) -> bool:
        """The same, slice by slice, each in one domain of ``affinity.slice_same``."""
        left = role.least
        while left > 0:
            size = min(self.workload.affinity.slice_size, left)
            if not any(self._seat_slice(role, size, nodes) for nodes in self._slice_domains(role, size)):
                return False
            left -= size
        return True

    def _seat_slice(self, role: RoleView, size: int, nodes: Sequence[int]) -> bool:
        """One slice on these nodes, or nothing."""
        mark, taken, found = self.trial.mark(), self.evictions.saved(), len(self.found)
        closed, refused = set(self.closed), set(self.refused)
        if self._seat(_Contest(self, role, nodes), size):
            return True
        self.trial.rollback(mark)
        self.evictions.return_to(taken)
        del self.found[found:]
        self.closed, self.refused = closed, refused
        return False

    def _slice_domains(self, role: RoleView, size: int) -> list[list[int]]:
        """The nodes of the domains that may take so many ranks, where these cost least."""
        shape = self.trial.pool.shape(role.request, self.bounds.models)
        below = self.by_node.bounds_below(shape, self.kinds, role.least)
        inside = None if self.domain is None else set(self.domain)
        priced: list[tuple[float, list[int]]] = []
        for members in self.trial.pool.topology.domains(self.workload.affinity.slice_same)[1]:
            nodes = [number for number in members if inside is None or number in inside]
            able = sorted(value for value in below[nodes].tolist() if value != float("inf"))
            if able:
                priced.append((sum(able[:size]), nodes))
        return [nodes for _, nodes in sorted(priced)[:DOMAINS_TRIED]]

    def items(self, node: int) -> list[Takeable]:
        """All that may be taken from a node now."""
        usage, running = self.trial.pool.usage[node], self.trial.running
        found: list[Takeable] = []
        for held, ranks in sorted(self.by_node.at.get(node, ()), key=_by_uid):
            uid = held.workload.uid
            if held.kind not in self.kinds or (node, uid) in self.refused or uid in self.evictions.evicted:
                continue
            current = running.get(uid)
            if current is None:
                continue
            if held.rank_price and not keep_apart(self.workload, held.workload):
                found += self._elastic_items(usage, held, ranks)
            elif current is held.running and self.claim.may_take(held.kind, held.by_model):
                found.append(_item((held, None), self._price(held), usage, ranks))
        return found

    def _elastic_items(self, usage: NodeUsage, held: Candidate, ranks: list[Assignment]) -> list[Takeable]:
        """Ranks that it can spare, the highest replica numbers first; the others only with all of it."""
        names = {(one.role, one.replica): one for one in self.evictions.placement(held)}
        spare = self.evictions.spare(held)
        items, rest = [], []
        for rank in sorted(ranks, key=lambda one: (one.role, -one.replica)):
            known = names.get((rank.role, rank.replica))
            if known is None or known.node != rank.node:
                continue
            if spare.get(rank.role, 0) > 0:
                spare[rank.role] -= 1
                items.append(_item((held, known), price_of_rank(held, known), usage, [known]))
            else:
                rest.append(known)
        if rest:
            items.append(_item((held, None), self._price(held), usage, rest))
        return items

    def _price(self, held: Candidate) -> int:
        """On one node: what frees several nodes that are wanted is paid for on each in part."""
        return held.price // min(held.nodes, self.wanted) if held.nodes > 1 else held.price

    def take(self, node: int, items: Sequence[Takeable]) -> set[str] | None:
        """Take these away for a node, the cheapest first; the nodes that get emptier. None where the claim
        does not reach all of them, or where a workload has given up all that it could spare meanwhile:
        nothing is taken then."""
        keys = [item.key for item in sorted(items, key=lambda item: item.price)]
        whole = {held.number for held, rank in keys if rank is None}
        touched: set[str] = set()
        taken: list[Key] = []
        for held, rank in keys:
            if rank is not None and held.number in whole:
                continue
            if rank is not None and not self.evictions.spare(held).get(rank.role):
                self._give_back(taken)
                return None
            placement = self.evictions.placement(held) if rank is None else (rank,)
            millis = {model: n for model, n in millis_by_model(placement).items() if n}
            if not self.claim.may_take(held.kind, millis):
                self.refused.add((node, held.workload.uid))
                self._give_back(taken)
                return None
            if rank is None:
                self.evictions.evict(held)
            else:
                self.evictions.shrink(held, rank)
            taken.append((held, rank))
            touched.update(one.node for one in placement)
        return touched

    def _give_back(self, taken: Sequence[Key]) -> None:
        for held, rank in taken:
            if rank is None:
                self.evictions.restore(held)
            else:
                self.evictions.regrow(held, rank)


class _Contest:
    """The nodes that one role could go to, by price."""

    def __init__(self, selection: Selection, role: RoleView, domain: Sequence[int] | None) -> None:
        self._selection = selection
        self._role = role
        self._pool = selection.trial.pool
        self._shape: Shape = self._pool.shape(role.request, selection.bounds.models)
        below = selection.by_node.bounds_below(self._shape, selection.kinds, role.least)
        if domain is not None:
            inside = np.zeros(len(below), dtype=bool)
            inside[list(domain)] = True
            below[~inside] = np.inf
        order = np.argsort(below, kind="stable")
        self._order: list[int] = order[: int(np.isfinite(below).sum())].tolist()
        self._below: list[float] = below[self._order].tolist()
        self._next = 0
        self._able = set(self._order) if domain is None else set(domain)
        self._judged: list[tuple[int, int, int]] = []
        self._items: dict[int, list[Takeable]] = {}
        self._version: dict[int, int] = {}

    def place_rank(self) -> bool:
        """Clear the cheapest node and put one rank on it."""
        while True:
            while self._next < len(self._order) and (
                not self._judged or self._below[self._next] <= self._judged[0][0]
            ):
                self._judge(self._order[self._next])
                self._next += 1
            if not self._judged:
                return False
            price, node, version = heappop(self._judged)
            if version != self._version[node]:
                continue
            if any(held.nodes > 1 for held, _ in (item.key for item in self._items[node])):
                self._judge(node)
                if not self._judged or self._judged[0][0] > price or self._judged[0][1] != node:
                    continue
                heappop(self._judged)
            if self._win(node):
                return True

    def _judge(self, node: int) -> None:
        """What the node costs as things are."""
        selection = self._selection
        if node in selection.closed or not self._pool.listed[node]:
            return
        items = selection.items(node)
        must = []
        if self._is_shunned(node):
            must = [item for item in items if keep_apart(selection.workload, item.key[0].workload)]
        extra = sum(item.price for item in must)
        for item in must:
            item.price = 0
        found = Clearing(self._pool.usage[node], items).cheapest(self._shape)
        self._version[node] = self._version.get(node, 0) + 1
        if found is not None:
            self._items[node] = [*must, *(item for item in found[1] if item not in must)]
            heappush(self._judged, (found[0] + extra, node, self._version[node]))

    def _is_shunned(self, node: int) -> bool:
        """Whether somebody is there now that the gang must keep apart from."""
        selection = self._selection
        if node not in selection.shunned:
            return False
        name = self._pool.view(node).name
        return name in selection.trial.affinity_index.closed_to(selection.workload)

    def _win(self, node: int) -> bool:
        selection = self._selection
        touched = selection.take(node, self._items[node])
        if touched is None:
            self._judge(node)
            return False
        found = None if self._is_shunned(node) else self._pool.find_among(self._shape, (node,))
        if found is None:
            selection.closed.add(node)
        else:
            self._seat(node, self._pool.take(self._shape, node, found[1]))
            if selection.alone:
                selection.closed.add(node)
        numbers = {number for number in map(self._pool.number, touched) if number is not None}
        for number in sorted((numbers & self._able) | {node}):
            self._judge(number)
        return found is not None

    def _seat(self, node: int, shares: tuple[Share, ...]) -> None:
        request, found = self._role.request, self._selection.found
        name = self._pool.view(node).name
        rank = Assignment(
            self._role.name,
            len(found),
            len(found),
            name,
            shares,
            request.cpu_millis,
            request.host_memory_bytes,
        )
        found.append(rank)


def _by_uid(there: tuple[Candidate, list[Assignment]]) -> str:
    return there[0].workload.uid


def _item(key: Key, price: int, usage: NodeUsage, ranks: Sequence[Assignment]) -> Takeable:
    item = Item(key, price)
    for rank in ranks:
        for share in rank.shares:
            position = usage.position_of.get(share.device)
            if position is not None:
                room = usage.capacity[position] & MEMORY_MASK
                packed = pack(share.millis, min(room, -(-share.memory_bytes // MIB)))
                item.on[position] = item.on.get(position, 0) + packed
        item.cpu_millis += rank.cpu_millis
        item.host_mebibytes -= -rank.host_memory_bytes // MIB
    return item
