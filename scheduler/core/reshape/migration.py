"""Moving what runs, so that something fits that does not.

A move is planned while everything still stands where it is: its target is free before anybody leaves, so
that moves can be carried out in any order, also by starting the new gang beside the old one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from scheduler.core.model.types import Migrate, Placement, WorkloadView
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.placing import ANYWHERE, Bounds, Stuck
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.states import Shape
from scheduler.core.reshape.consolidation import consolidate
from scheduler.core.reshape.movers import Movers

__all__ = ["consolidate", "plan_moves"]

NODES_TRIED = 16
"""For each rank so many nodes are tried, the cheapest to clear first."""

NODES_LOOKED_AT = 64
"""For so many nodes it is worked out who would have to go."""

DOMAINS_TRIED = 3
"""In so many domains (``affinity.same``) room is sought, the emptiest first."""


def plan_moves(trial: Trial, workload: WorkloadView, bounds: Bounds = ANYWHERE) -> tuple[Migrate, ...] | None:
    """At most ``policy.max_moves`` moves that let a workload fit which does not, each of a movable workload
    to devices of the same models; None with the trial as it was.

    On success the trial holds the moved ones at their new places and the workload at its own; what the moved
    ones leave and it does not need stays taken, because they are there until they have moved.
    """
    movers = Movers(trial)
    if not movers.on_node or not _enough_free(trial, workload, bounds):
        return None
    for domain in _domains(trial, workload, bounds):
        mark = trial.mark()
        plan = _Plan(trial, movers, workload, bounds, domain)
        placement = plan.run()
        if placement is not None:
            trial.admit(workload, placement)
            trial.keep_residual(movers.left_by(plan.moves), placement)
            message = f"moves to make room for {workload.name}"
            return tuple(Migrate(uid, place, message, workload.uid) for uid, place in plan.moves.items())
        trial.rollback(mark)
    return None


@dataclass
class _Plan:
    """Clears one node after the other for a workload, in one domain (None = anywhere)."""

    trial: Trial
    movers: Movers
    workload: WorkloadView
    bounds: Bounds
    domain: frozenset[int] | None
    moves: dict[str, Placement] = field(default_factory=dict)
    cleared: list[int] = field(default_factory=list)

    def run(self) -> Placement | None:
        """Where the workload then is; None where it can not be done."""
        while True:
            found = self.trial.place(self.workload, self.bounds)
            if not isinstance(found, Stuck):
                return found if self.moves else None
            shape = self.trial.pool.shape(found.role.request, self.bounds.models)
            if not self._clear_cheapest(shape, found.total - found.fitted):
                return None

    def _clear_cheapest(self, shape: Shape, missing: int) -> bool:
        """Make room for one more rank by the fewest and cheapest moves. Of ``missing`` ranks the others need
        nodes too: the moved do not go where the next would be cleared, if there are other places."""
        trial, room, choices = self.trial, self._room(shape), self._choices(shape)[:NODES_TRIED]
        useful = self._useful(shape)
        following = [number for _, number, _ in choices[:missing]] if missing > 1 else []
        for _, number, uids in choices:
            for barred, within in self._ways(number, uids, useful, following):
                mark = trial.mark()
                found = self.movers.move(uids, barred, self.moves, within)
                if found is not None and self._room(shape) > room:
                    self.moves |= found
                    self.cleared.append(number)
                    return True
                trial.rollback(mark)
        return False

    def _ways(
        self, number: int, uids: list[str], useful: list[int], following: list[int]
    ) -> Iterator[tuple[set[int], int | None]]:
        """Nodes that the moved do not go to; and, where they can leave their devices only by what they have
        beside these, the node that they may stay on."""
        for barred in ([*useful, *following], useful, []) if following else (useful, []):
            yield {number, *self.cleared, *barred}, None
        if self._may_stay(number, uids):
            others = {*self.cleared} - {number}
            yield from (({*others, *useful} - {number}, number), (others, number))

    def _may_stay(self, number: int, uids: list[str]) -> bool:
        """Whether they hold places on other nodes, too, or as much as they hold is free on this one."""
        held = self.movers.places_on(uids, number)
        if len(held) < sum(len(self.movers.views[uid].placement) for uid in uids):
            return True
        pool = self.trial.pool
        state = pool.states.all[pool.state_of[number]]
        free = sum(sum(state.free_millis(group)) for group in range(len(state.layout.groups)))
        return free >= sum(millis_by_model(held).values()) > 0

    def _choices(self, shape: Shape) -> list[tuple[tuple[int, int, int], int, list[str]]]:
        """(cost, node, who has to go) of the nodes that could take one more rank, cheapest first."""
        choices = []
        for number in self._promising(shape):
            uids = self._who_must_go(shape, number)
            if uids and len(self.moves) + len(uids) <= self.trial.policy.max_moves:
                choices.append((self.movers.cost(uids), number, uids))
        return sorted(choices)

    def _promising(self, shape: Shape) -> list[int]:
        """Nodes of a kind that serves it with somebody who may be moved; those with the most free first."""
        pool, able = self.trial.pool, list[tuple[int, int]]()
        for number in self.movers.on_node:
            state = pool.states.all[pool.state_of[number]]
            demands = shape.demands(state.layout)
            if (demands or not shape.takes_devices) and (self.domain is None or number in self.domain):
                able.append((-sum(sum(state.free_millis(demand.group)) for demand in demands), number))
        return [number for _, number in sorted(able)[:NODES_LOOKED_AT]]

    def _who_must_go(self, shape: Shape, number: int) -> list[str]:
        """The cheapest without whom the node takes one rank more; nobody where that is not possible."""
        pool, movers = self.trial.pool, self.movers
        movable = [uid for uid in movers.on_node[number] if uid not in self.moves]
        name, mark = pool.view(number).name, pool.mark()
        needed = self._takes(shape, number) + 1
        on_it = {uid: [a for a in movers.views[uid].placement if a.node == name] for uid in movable}
        for places in on_it.values():
            pool.vacate(places)
        gone: list[str] = []
        if self._takes(shape, number, needed) == needed:
            for uid in sorted(movable, key=lambda uid: (movers.cost([uid])[1:], uid), reverse=True):
                again = pool.mark()
                pool.occupy(on_it[uid])
                if self._takes(shape, number, needed) < needed:
                    pool.rollback(again)
                    gone.append(uid)
        pool.rollback(mark)
        return gone

    def _takes(self, shape: Shape, number: int, most: int | None = None) -> int:
        """How many ranks the node takes now; asked for at ``most`` so many."""
        pool, mark, count = self.trial.pool, self.trial.pool.mark(), 0
        while count != most:
            option = pool.option(shape, pool.states.all[pool.state_of[number]])
            if option is None:
                break
            pool.take(shape, number, option)
            count += 1
            if not shape.takes_devices:
                break
        pool.rollback(mark)
        return count

    def _room(self, shape: Shape) -> int:
        ranks = self.trial.pool.ranks_per_node(shape)
        return int(ranks.sum() if self.domain is None else ranks[sorted(self.domain)].sum())

    def _useful(self, shape: Shape) -> list[int]:
        """Nodes that take a rank of the workload as they are."""
        ranks = self.trial.pool.ranks_per_node(shape)
        return [int(number) for number in ranks.nonzero()[0]]


def _enough_free(trial: Trial, workload: WorkloadView, bounds: Bounds) -> bool:
    """Whether all its least ranks could be put together from what is free."""
    free = trial.pool.free_millis()
    needs = trial.needs(workload)
    models = [model for model in needs if bounds.models is None or model in bounds.models]
    return not models or sum(free.get(model, 0) for model in models) >= min(needs[m] for m in models)


def _domains(trial: Trial, workload: WorkloadView, bounds: Bounds) -> list[frozenset[int] | None]:
    """Where all of its ranks have to be together: the domains with the most room first."""
    if not workload.affinity.same:
        return [None]
    _, members = trial.pool.topology.domains(workload.affinity.same)
    room = np.zeros(len(trial.pool.usage), dtype=np.int64)
    for role in workload.roles:
        room += trial.pool.ranks_per_node(trial.pool.shape(role.request, bounds.models))
    sizes = [(-int(room[list(nodes)].sum()), index) for index, nodes in enumerate(members)]
    return [frozenset(members[index]) for _, index in sorted(sizes)[:DOMAINS_TRIED]]
