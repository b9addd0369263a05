"""Workloads that run with more or fewer ranks: what they can spare, and what is left over for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count

from scheduler.core.model.device_classes import classes_of
from scheduler.core.model.types import (
    Assignment,
    Placement,
    Resize,
    RoleView,
    RunningView,
    Tide,
    WorkloadView,
)
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.placing import ANYWHERE, Bounds, Stuck
from scheduler.core.placement.trial import Trial
from scheduler.core.tide.tides import room_for_training


def is_elastic(workload: WorkloadView) -> bool:
    """Whether any role may have fewer ranks than it asks for."""
    for role in workload.roles:  # noqa: SIM110 - asked for every placement, where a generator shows
        if role.min_replicas is not None and role.min_replicas < role.replicas:
            return True
    return False


def spare_ranks(running: RunningView) -> dict[str, int]:
    """Per role, how many ranks it holds beyond the least."""
    held = Counter(assignment.role for assignment in running.placement)
    return {role.name: max(0, held[role.name] - role.least) for role in running.workload.roles}


def without(placement: Placement, gone: Collection[Assignment]) -> Placement:
    """The placement without some ranks. Those that stay keep their places and replica numbers; ranks are
    counted anew."""
    names = {(one.role, one.replica) for one in gone}
    left = [one for one in placement if (one.role, one.replica) not in names]
    return tuple(one if one.rank == rank else one._replace(rank=rank) for rank, one in enumerate(left))


def with_rank(running: RunningView, role: RoleView, more: Assignment) -> Placement:
    """The placement with one more rank of the role, which gets the lowest replica number that is free."""
    taken = {one.replica for one in running.placement if one.role == role.name}
    replica = next(number for number in count() if number not in taken)
    order = {each.name: index for index, each in enumerate(running.workload.roles)}
    grown = [*running.placement, more._replace(role=role.name, replica=replica)]
    grown.sort(key=lambda one: (order[one.role], one.replica))
    return tuple(one._replace(rank=rank) for rank, one in enumerate(grown))


def within_quota(trial: Trial, workload: WorkloadView, placement: Placement) -> Placement:
    """What of a placement on the pool the queue may have: ranks beyond the least that its quota does not
    cover are taken off again, of all roles in proportion, last ones first."""
    if not is_elastic(workload):
        return placement
    spare = spare_ranks(RunningView(workload, placement, trial.now_ms))
    while any(spare.values()) and trial.refusal(workload, placement) is not None:
        fullest = fullest_role(workload, spare)
        last = next(one for one in reversed(placement) if one.role == fullest)
        spare[last.role] -= 1
        trial.pool.vacate((last,))
        placement = without(placement, (last,))
    return placement


def fullest_role(workload: WorkloadView, spare: Mapping[str, int]) -> str:
    """The role that has the largest part of the ranks that it could do without; of equals the last."""
    elastic = [role for role in workload.roles if spare[role.name]]
    most = max(spare[role.name] / (role.replicas - role.least) for role in elastic)
    return [r.name for r in elastic if spare[r.name] / (r.replicas - r.least) == most][-1]


_Turn = tuple[float, int, float, int, str]
"""Share of the queue, priority (turned round), part of its ranks, start and name: the lowest is next."""


def part_held(running: RunningView) -> float:
    """Of the ranks beyond its least, the part that an elastic workload has."""
    most = sum(role.replicas - role.least for role in running.workload.roles)
    return sum(spare_ranks(running).values()) / most if most else 1.0


def grow(trial: Trial, pending_blocked: bool) -> tuple[Resize, ...]:
    """Give what is left over to running workloads that have fewer ranks than they ask for: rank by rank, the
    queue with the lowest fair share first, then the more important, then who has the smallest part of its
    ranks, then who started first.

    None while something waits that could use the room (``pending_blocked``). A workload whose ranks changed
    in the last ``Policy.resize_seconds`` is left alone, so that none goes up and down all the time. The trial
    is left with the new places.
    """
    if pending_blocked:
        return ()
    growth = Growth(trial)
    turns: list[_Turn] = []
    for running in trial.running.values():
        if growth.may_grow(running):
            heappush(turns, _turn(trial, running))
    while turns:
        turn = heappop(turns)
        running = trial.running[turn[-1]]
        now = _turn(trial, running)
        if now[0] > turn[0]:
            heappush(turns, now)
        elif growth.add_rank(running):
            heappush(turns, _turn(trial, trial.running[turn[-1]]))
    return growth.resizes()


def _turn(trial: Trial, running: RunningView) -> _Turn:
    workload, share = running.workload, trial.tree.share(running.workload.queue)
    return share, -workload.priority, part_held(running), running.started_ms, workload.uid


@dataclass
class Growth:
    """Ranks added one by one. ``before``: ranks that each grown workload had; ``tidal``: what training may
    still take per tide."""

    trial: Trial
    before: dict[str, int] = field(default_factory=dict)
    tidal: dict[Tide, int] = field(default_factory=dict)

    def may_grow(self, running: RunningView) -> bool:
        """Whether it wants more ranks and has been left alone for long enough."""
        changed_ms = max(running.started_ms, running.resized_ms)
        quiet_ms = max(1, self.trial.policy.resize_seconds * 1000)
        if running.leaving or self.trial.now_ms - changed_ms < quiet_ms:
            return False
        return is_elastic(running.workload) and next(_short_roles(running), None) is not None

    def add_rank(self, running: RunningView) -> bool:
        """One rank more, of the role that has the smallest part of its ranks and finds a place."""
        for role in _short_roles(running):
            found = self._place(running, role)
            if found is not None and self._within_tides(running.workload, found):
                uid = running.workload.uid
                self.before.setdefault(uid, len(running.placement))
                self.trial.resize(uid, with_rank(running, role, found))
                return True
        return False

    def resizes(self) -> tuple[Resize, ...]:
        """One for each that has grown."""
        made = []
        for uid, before in self.before.items():
            running = self.trial.running[uid]
            more = len(running.placement) - before
            plural = "rank" if more == 1 else "ranks"
            made.append(Resize(uid, running.placement, f"gets {more} {plural} more: there is room"))
        return tuple(made)

    def _place(self, running: RunningView, role: RoleView) -> Assignment | None:
        """Where one rank more would go; the pool is left as it was."""
        trial, workload = self.trial, running.workload
        single = RoleView(role.name, 1, role.request)
        affinity = replace(workload.affinity, same="", spread="")
        probe = replace(workload, roles=(single,), affinity=affinity)
        bounds = trial.bounds_for(probe)
        if not isinstance(bounds, Bounds):
            return None
        if workload.affinity.same:
            bounds = Bounds(bounds.models, _domain_of(trial, running))
        mark = trial.mark()
        found = trial.place(probe, bounds or ANYWHERE)
        trial.rollback(mark)
        return None if isinstance(found, Stuck) else found[0]

    def _within_tides(self, workload: WorkloadView, rank: Assignment) -> bool:
        """Whether the tides leave training the devices of the rank; what they leave is counted down."""
        if workload.kind != "training":
            return True
        takes = {tide: _millis_of(tide, rank) for tide in self.trial.policy.tides}
        for tide in takes:
            if tide not in self.tidal:
                self.tidal[tide] = room_for_training(self.trial, tide)
        if any(millis > self.tidal[tide] for tide, millis in takes.items() if millis):
            return False
        for tide, millis in takes.items():
            self.tidal[tide] -= millis
        return True


def _short_roles(running: RunningView) -> Iterator[RoleView]:
    held = Counter(assignment.role for assignment in running.placement)
    short = [role for role in running.workload.roles if held[role.name] < role.replicas]
    if len(short) > 1:
        short.sort(key=lambda role: (held[role.name] - role.least) / (role.replicas - role.least or 1))
    return iter(short)


def _millis_of(tide: Tide, rank: Assignment) -> int:
    held = millis_by_model((rank,))
    return sum(millis for model, millis in held.items() if tide.device_class.lower() in classes_of(model))


def _domain_of(trial: Trial, running: RunningView) -> tuple[int, ...]:
    """Nodes of the domain that it is in, without those that are held for others."""
    of_node, members = trial.pool.topology.domains(running.workload.affinity.same)
    number = trial.pool.number(running.placement[0].node) if running.placement else None
    if number is None or of_node[number] < 0:
        return ()
    return tuple(n for n in members[of_node[number]] if not trial.pool.is_hidden(n))
