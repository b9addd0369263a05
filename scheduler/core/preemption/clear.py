"""Third stage of preemption: nodes are cleared for the gang, rank by rank the node that costs least. Exact
prices are worked out only where a lower bound says that they may matter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from heapq import heappop, heappush

import numpy as np

from scheduler.core.model.types import Assignment, Placement, RoleView, Share, WorkloadView
from scheduler.core.placement.affinity import has_wishes
from scheduler.core.placement.trial import Trial
from scheduler.core.preemption.beside import keep_apart
from scheduler.core.preemption.lower_bounds import LowerBounds
from scheduler.core.preemption.offers import Offer, Offers
from scheduler.core.preemption.one_node import OneNode
from scheduler.core.preemption.scopes import Scope

DOMAINS_TRIED = 8
"""In so many domains each slice of a gang is tried, the cheapest first."""


def clear(trial: Trial, workload: WorkloadView, scope: Scope, below: LowerBounds, offers: Offers) -> bool:
    """Take what it takes for the least of all roles of the ``workload``. The pool then has room for it. False
    leaves the trial for the caller to roll back."""
    ground = _Ground(trial, workload, scope, below, offers)
    roles = workload.roles
    hardest = sorted(
        range(len(roles)), key=lambda i: (-roles[i].request.count * roles[i].request.share_millis, i)
    )
    seat = ground.seat_slices if workload.affinity.slice_same else ground.seat_least
    cleared = all(seat(roles[index]) for index in hardest)
    if cleared:
        trial.pool.vacate(ground.seats)
    return cleared


class _Ground:
    """The nodes of one attempt. ``shunned``: those with somebody whom the gang must keep apart from, and who
    has to go first; ``one_per_node``: its ranks keep apart from each
    other; ``closed``: nodes that are out of the question;
    ``seats``: where its ranks are meanwhile, with numbers that stand for nothing."""

    def __init__(
        self, trial: Trial, workload: WorkloadView, scope: Scope, below: LowerBounds, offers: Offers
    ) -> None:
        self.trial = trial
        self.workload = workload
        self.scope = scope
        self.below = below
        self.offers = offers
        names = trial.affinity_index.closed_to(workload) if has_wishes(workload) else set()
        self.shunned = {number for number in map(trial.pool.number, names) if number is not None}
        self.one_per_node = bool(set(workload.affinity.apart) & set(workload.labels))
        self.closed: set[int] = set()
        self.found: list[Assignment] = []

    @property
    def seats(self) -> Placement:
        return tuple(self.found)

    def seat_least(self, role: RoleView) -> bool:
        """All ranks that the role cannot do without."""
        return self._seat(_NodesByPrice(self, role, self.scope.nodes), role.least)

    def seat_slices(self, role: RoleView) -> bool:
        """The same, slice by slice, each in one domain of ``affinity.slice_same``."""
        left = role.least
        while left > 0:
            size = min(self.workload.affinity.slice_size, left)
            if not any(self._seat_slice(role, size, nodes) for nodes in self._slice_domains(role, size)):
                return False
            left -= size
        return True

    def _seat(self, nodes: _NodesByPrice, ranks: int) -> bool:
        return all(nodes.place_rank(wanted) for wanted in range(ranks, 0, -1))

    def _seat_slice(self, role: RoleView, size: int, nodes: Sequence[int]) -> bool:
        """One slice on these nodes, or nothing."""
        mark = self.trial.mark()
        seated = self._seat(_NodesByPrice(self, role, nodes), size)
        if not seated:
            self.trial.rollback(mark)
        return seated

    def _slice_domains(self, role: RoleView, size: int) -> list[list[int]]:
        """The nodes of the domains that may take so many ranks, where these cost least."""
        shape = self.trial.pool.shape(role.request, self.scope.bounds.models)
        below = self.below.prices(shape, self.scope.reach.classes, role.least)
        inside = None if self.scope.nodes is None else set(self.scope.nodes)
        priced: list[tuple[float, list[int]]] = []
        for members in self.trial.pool.topology.domains(self.workload.affinity.slice_same)[1]:
            nodes = [number for number in members if inside is None or number in inside]
            able = sorted(value for value in below[nodes].tolist() if value != float("inf"))
            if able:
                priced.append((sum(able[:size]), nodes))
        return [nodes for _, nodes in sorted(priced)[:DOMAINS_TRIED]]

    def take_seat(self, role: RoleView, node: int, shares: tuple[Share, ...]) -> None:
        """A rank of the role is there now."""
        request, number, name = role.request, len(self.found), self.trial.pool.view(node).name
        self.found.append(
            Assignment(role.name, number, number, name, shares, request.cpu_millis, request.host_memory_bytes)
        )
        self.trial.remember(self.found.pop)

    def close(self, node: int) -> None:
        """It is out of the question."""
        if node not in self.closed:
            self.closed.add(node)
            self.trial.remember(partial(self.closed.discard, node))

    def is_shunned(self, node: int) -> bool:
        """Whether somebody is there now that the gang must keep apart from."""
        if node not in self.shunned:
            return False
        name = self.trial.pool.view(node).name
        return name in self.trial.affinity_index.closed_to(self.workload)


class _NodesByPrice:
    """The nodes that one role could go to, the cheapest first."""

    def __init__(self, ground: _Ground, role: RoleView, nodes: Sequence[int] | None) -> None:
        self._ground = ground
        self._role = role
        self._pool = ground.trial.pool
        self._shape = self._pool.shape(role.request, ground.scope.bounds.models)
        below = ground.below.prices(self._shape, ground.scope.reach.classes, role.least)
        if nodes is not None:
            inside = np.zeros(len(below), dtype=bool)
            inside[list(nodes)] = True
            below[~inside] = np.inf
        order = np.argsort(below, kind="stable")
        self._order: list[int] = order[: int(np.isfinite(below).sum())].tolist()
        self._below: list[float] = below[self._order].tolist()
        self._next = 0
        self._able = set(self._order) if nodes is None else set(nodes)
        self._judged: list[tuple[int, int, int]] = []
        self._offers: dict[int, list[Offer]] = {}
        self._version: dict[int, int] = {}

    def place_rank(self, wanted: int) -> bool:
        """Clear the cheapest node and put one of the ``wanted`` ranks, which have no node yet, on it."""
        while True:
            while self._next < len(self._order) and (
                not self._judged or self._below[self._next] <= self._judged[0][0]
            ):
                self._judge(self._order[self._next], wanted)
                self._next += 1
            if not self._judged:
                return False
            price, node, version = heappop(self._judged)
            if version != self._version[node]:
                continue
            if any(offer.key[0].nodes > 1 for offer in self._offers[node]):
                self._judge(node, wanted)
                if not self._judged or self._judged[0][0] > price or self._judged[0][1] != node:
                    continue
                heappop(self._judged)
            if self._win(node, wanted):
                return True

    def _judge(self, node: int, wanted: int) -> None:
        """What the node costs as things are."""
        ground = self._ground
        if node in ground.closed or not self._pool.listed[node]:
            return
        offers = ground.offers.on(node, wanted)
        must = []
        if ground.is_shunned(node):
            must = [offer for offer in offers if keep_apart(ground.workload, offer.key[0].workload)]
        extra = sum(offer.price for offer in must)
        for offer in must:
            offer.price = 0
        found = OneNode(self._pool.usage[node], offers).cheapest(self._shape)
        self._version[node] = self._version.get(node, 0) + 1
        if found is not None:
            self._offers[node] = [*must, *(offer for offer in found[1] if offer not in must)]
            heappush(self._judged, (found[0] + extra, node, self._version[node]))

    def _win(self, node: int, wanted: int) -> bool:
        """Clear it; whether the rank has its place there then."""
        ground = self._ground
        touched = ground.offers.take(node, self._offers[node])
        if touched is None:
            self._judge(node, wanted)
            return False
        found = None if ground.is_shunned(node) else self._pool.find_among(self._shape, (node,))
        if found is not None:
            ground.take_seat(self._role, node, self._pool.take(self._shape, node, found[1]))
        if found is None or ground.one_per_node:
            ground.close(node)
        numbers = {number for number in map(self._pool.number, touched) if number is not None}
        for number in sorted((numbers & self._able) | {node}):
            self._judge(number, wanted)
        return found is not None
