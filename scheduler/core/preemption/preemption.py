"""Room for a workload that finds none: by waiting for what leaves anyway, by shrinking elastic workloads, by
taking places back from others. Who is taken from, and in which order: see ``docs/design/preemption.md``.

All is tried on the pool and undone; only what is needed in the end is carried out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from scheduler.core.model.types import Assignment, Placement, WorkloadView
from scheduler.core.placement.affinity import has_wishes
from scheduler.core.placement.placing import Bounds
from scheduler.core.placement.trial import Trial, millis_by_model
from scheduler.core.pool.layout import ModelKey
from scheduler.core.preemption.candidates import Candidate, Candidates
from scheduler.core.preemption.claims import Claim, VictimClass
from scheduler.core.preemption.filling_back import FillingBack
from scheduler.core.preemption.plan import PreemptionPlan, carry_out
from scheduler.core.preemption.selection import Selection, Takeable
from scheduler.core.preemption.tentative import TentativeEvictions
from scheduler.core.quota.quota import QuotaRefusal
from scheduler.core.tide.tides import within_tide

__all__ = ["PreemptionPlan", "find_leftover", "find_room"]

CURABLE = ("QueueLimit", "QuotaExhausted", "CohortExhausted")
"""What a queue holds back for, and that passes when others give something up."""
DOMAINS_TRIED = 8
"""In so many domains (``affinity.same``) room is sought."""


def find_room(trial: Trial, workload: WorkloadView, bounds: Bounds | QuotaRefusal) -> PreemptionPlan | None:
    """Room for the least ranks of the workload, or None with the trial as it was.

    On success the trial holds the workload in its place and the victims no more; what they hold and the
    workload does not need stays taken, because they are there until their grace ends. ``bounds``: what the
    quota leaves; ``QuotaRefusal`` where it leaves nothing, and only a queue that gives something up helps.
    """
    if isinstance(bounds, QuotaRefusal) and (bounds.never or bounds.code not in CURABLE):
        return None
    if not _helps(trial, workload) or within_tide(trial, workload) is None:
        return None
    search = _Search(trial, workload, bounds)
    mark = trial.mark()
    found = search.run()
    gone = search.evictions.displaced_by(workload, found) if found is not None else ()
    trial.rollback(mark)
    return None if found is None else carry_out(trial, workload, search.evictions, found, gone)


def find_leftover(trial: Trial, workload: WorkloadView) -> PreemptionPlan | None:
    """Room without taking from anybody: what is free, or will be once those who leave have left. None with
    the trial as it was."""
    if within_tide(trial, workload) is None:
        return None
    search = _Search(trial, workload, trial.bounds_for(workload))
    mark = trial.mark()
    found = search.wait()
    gone = search.evictions.displaced_by(workload, found) if found is not None else ()
    trial.rollback(mark)
    return None if found is None else carry_out(trial, workload, search.evictions, found, gone)


def _helps(trial: Trial, workload: WorkloadView) -> bool:
    """Whether it is worth looking for anybody to give way."""
    member = trial.tree.member(workload.queue)
    shared = member is not None and member.root is not member
    reclaims = shared and trial.tree.rules(workload.queue).reclaim_within_cohort == "any"
    equals = trial.tree.displaces_newer(workload.queue)
    return trial.outline.helps(workload.priority + equals, reclaims=reclaims)


def _least(workload: WorkloadView) -> WorkloadView:
    """Nobody loses places for ranks that it can do without."""
    if all(role.least == role.replicas for role in workload.roles):
        return workload
    roles = tuple(replace(role, replicas=role.least, min_replicas=None) for role in workload.roles)
    return replace(workload, roles=roles)


class _Search:
    """One search for room. Until ``carry_out`` everything happens within a mark."""

    def __init__(self, trial: Trial, workload: WorkloadView, bounds: Bounds | QuotaRefusal) -> None:
        self.trial = trial
        self.workload = workload
        self.least = _least(workload)
        self.given = bounds
        self.claim = Claim(trial, self.least)
        self.victims = Candidates.of(trial)
        self.wishes = has_wishes(workload)
        self.evictions = TentativeEvictions(trial, workload)
        self.alone = False
        self._filling_back = FillingBack(trial, workload, self.claim, self.evictions, self._place)

    def run(self) -> Placement | None:
        """Where the gang goes once all of ``evictions`` is taken."""
        waiting = self._after_grace()
        if waiting is not None:
            return waiting
        for kinds in self.claim.stages(self.victims.classes, lambda: self.victims.by_node.millis):
            self.alone = all(kind.queue == self.workload.queue for kind in kinds)
            for bounds in self._options(kinds):
                if self._enough(kinds, bounds):
                    for domain in self._domains(bounds):
                        placement = self._clear(kinds, bounds, domain)
                        if placement is not None:
                            return placement
        return None

    # -- what leaves anyway

    def wait(self) -> Placement | None:
        """Where it goes when nobody is taken from."""
        return self._place() or self._after_grace()

    def _after_grace(self) -> Placement | None:
        """Where it goes when all that leaves is gone; they stay out of sight from here on."""
        running, residual = self.trial.running, self.trial.residual
        leaving = [one for one in self.victims.soon_gone if running.get(one.workload.uid) is one]
        for one in leaving:
            self.evictions.set_aside(one)
        self.trial.pool.vacate(residual)
        return self._place() if leaving or residual else None

    def _place(self) -> Placement | None:
        """On the pool and within the quota as they are now."""
        bounds = self._bounds()
        found = self.trial.place(self.least, bounds) if isinstance(bounds, Bounds) else None
        return found if isinstance(found, tuple) else None

    def _bounds(self) -> Bounds | QuotaRefusal:
        bounds = self.trial.bounds_for(self.least)
        if isinstance(bounds, Bounds) and isinstance(self.given, Bounds):
            bounds = Bounds(bounds.models, self.given.only)
        if self.alone and isinstance(bounds, Bounds):
            models = self.trial.needs(self.least) if bounds.models is None else bounds.models
            kept = self.claim.within_reach(models)
            return bounds if len(kept) == len(models) else Bounds(kept, bounds.only)
        return bounds

    # -- what can be ruled out at once

    def _options(self, kinds: set[VictimClass]) -> Iterator[Bounds]:
        """What the quota leaves as things are; then what it leaves when all that may be taken is taken."""
        now = self._bounds()
        if isinstance(now, Bounds):
            yield now
            if now.models is None:
                return
        tree = self.trial.tree
        refunds: list[tuple[str, ModelKey, int]] = []
        for kind in sorted(kinds):
            used = tree.usage(kind.queue)
            for model, millis in self.victims.by_node.millis[kind].items():
                back = min(millis, used.get(model, 0))
                if back:
                    tree.refund(kind.queue, model, back)
                    used[model] -= back
                    refunds.append((kind.queue, model, back))
        widest = self._bounds()
        for queue, model, back in refunds:
            tree.charge(queue, model, back)
        if isinstance(widest, Bounds) and widest != now:
            yield widest

    def _enough(self, kinds: set[VictimClass], bounds: Bounds) -> bool:
        """Whether what is free and what may be taken add up to the gang."""
        by_node, trial = self.victims.by_node, self.trial
        free, takeable = self.victims.free_millis, by_node.millis_of(kinds)
        residual = millis_by_model(trial.residual)
        for role in self.least.roles:
            one = replace(self.least, roles=(replace(role, replicas=1, min_replicas=None),))
            needs = {
                model: millis
                for model, millis in trial.needs(one).items()
                if millis and (bounds.models is None or model in bounds.models)
            }
            room = sum(
                (free.get(model, 0) + residual.get(model, 0) + takeable.get(model, 0)) // millis
                for model, millis in needs.items()
            )
            if role.request.count and room < role.replicas:
                return False
        return True

    def _domains(self, bounds: Bounds) -> Iterator[Sequence[int] | None]:
        """Sets of nodes that all ranks may go to; None = all nodes."""
        same, beside = self.least.affinity.same, self._beside()
        if not same:
            yield bounds.only if beside is None else sorted(beside.intersection(bounds.only or beside))
            return
        pool, by_node = self.trial.pool, self.victims.by_node
        kinds = set(by_node.kinds)
        _, members = pool.topology.domains(same)
        shapes = [pool.shape(role.request, bounds.models) for role in self.least.roles]
        below = [
            by_node.bounds_below(shape, kinds, role.least)
            for shape, role in zip(shapes, self.least.roles, strict=True)
        ]
        priced: list[tuple[float, int]] = []
        for number, nodes in enumerate(members):
            price = 0.0
            for role, least in zip(self.least.roles, below, strict=True):
                able = sorted(value for value in least[nodes].tolist() if value != float("inf"))
                price += sum(able[: role.least]) if able else float("inf")
            if price != float("inf"):
                priced.append((price, number))
        for _, number in sorted(priced)[:DOMAINS_TRIED]:
            yield members[number] if beside is None else sorted(beside.intersection(members[number]))

    def _beside(self) -> set[int] | None:
        """Where those are whom it must be beside; None = anywhere."""
        names = self.trial.affinity_index.beside(self.least) if self.least.affinity.beside else None
        if names is None:
            return None
        return {number for number in map(self.trial.pool.number, names) if number is not None}

    # -- taking

    def _clear(
        self, kinds: set[VictimClass], bounds: Bounds, domain: Sequence[int] | None
    ) -> Placement | None:
        """Clear nodes, loosen the quota, place the gang by the ordinary rules, and give back what it turns
        out not to need. None leaves everything as it was before."""
        mark, before = self.trial.mark(), self.evictions.saved()
        selection = Selection(
            self.trial,
            self.least,
            bounds,
            self.claim,
            kinds,
            self.evictions,
            self.victims.by_node,
            domain,
            self._shunned(),
            bool(set(self.least.affinity.apart) & set(self.least.labels)),
        )
        seats = selection.run()
        if seats is not None:
            self.trial.pool.vacate(seats)
            placement = self._place() or self._loosen(selection)
            if placement is not None and self._make_due(selection, placement):
                return self._filling_back.refine(self._filling_back.fill_back(placement))
        self.trial.rollback(mark)
        self.evictions.return_to(before)
        return None

    def _shunned(self) -> set[int]:
        """Nodes that it must keep apart from."""
        names = self.trial.affinity_index.closed_to(self.least) if self.wishes else set()
        return {number for number in map(self.trial.pool.number, names) if number is not None}

    def _loosen(self, selection: Selection) -> Placement | None:
        """Where the quota does not leave what was cleared: take more, cheapest first, until it does."""
        bounds, step = self._bounds(), 1
        if bounds == selection.bounds:
            return None
        cheapest = self._cheapest(selection)
        while cheapest:
            batch, cheapest = cheapest[:step], cheapest[step:]
            for node, item in batch:
                if self._is_there(*item.key):
                    selection.take(node, [item])
            before, bounds = bounds, self._bounds()
            placement = self._place() if bounds != before else None
            if placement is not None:
                return placement
            step *= 2
        return None

    def _make_due(self, selection: Selection, placement: Placement) -> bool:
        """Where others gave back what is the queue's own only without less important work of its own, that
        makes way, too, cheapest first."""
        for node, item in self._cheapest(selection) if not self._filling_back.is_due(placement) else ():
            held, rank = item.key
            if held.kind.queue == self.workload.queue and self._is_there(held, rank):
                selection.take(node, [item])
                if self._filling_back.is_due(placement):
                    return True
        return self._filling_back.is_due(placement)

    def _cheapest(self, selection: Selection) -> list[tuple[int, Takeable]]:
        """All that may be taken, by node."""
        priced = [
            (item.price, node, number, item)
            for node in sorted(self.victims.by_node.at)
            for number, item in enumerate(selection.items(node))
        ]
        return [(node, item) for _, node, _, item in sorted(priced, key=lambda each: each[:3])]

    def _is_there(self, held: Candidate, rank: Assignment | None) -> bool:
        left = self.evictions.placement(held)
        if rank is None:
            return bool(left)
        return any((one.role, one.replica) == (rank.role, rank.replica) for one in left)
