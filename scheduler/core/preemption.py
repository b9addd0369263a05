"""Room for a workload that finds none: by waiting for what leaves anyway, by shrinking elastic workloads, by
taking places back from others. Who is taken from, and in which order: see ``docs/design/preemption.md``.

All is tried on the pool and undone; only what is needed in the end is carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from scheduler.core.claims import Claim, Class
from scheduler.core.elastic import without
from scheduler.core.layout import ModelKey
from scheduler.core.placing import Bounds
from scheduler.core.quota import Hold
from scheduler.core.selection import Selection
from scheduler.core.shadows import shadows
from scheduler.core.taking import Taking, fits_beside, keep_apart
from scheduler.core.tides import within_tide
from scheduler.core.trial import Trial, millis_by_model
from scheduler.core.types import Assignment, Placement, Preempt, Resize, WorkloadView
from scheduler.core.victims import Held, Outline, Victims

CURABLE = ("QueueLimit", "QuotaExhausted", "CohortExhausted")
"""What a queue holds back for, and that passes when others give something up."""
DOMAINS_TRIED = 8
"""In so many domains (``affinity.same``) room is sought."""
REFINED = 16
"""With so few victims it is tried for each whether the gang fits elsewhere without it."""


@dataclass(frozen=True)
class Room:
    """What makes room. Without ``resizes`` and ``victims`` it is made by what leaves already.
    ``placement``: where the workload would then go."""

    resizes: tuple[Resize, ...]
    victims: tuple[Preempt, ...]
    placement: Placement


def find_room(trial: Trial, workload: WorkloadView, bounds: Bounds | Hold) -> Room | None:
    """Room for the least ranks of the workload, or None with the trial as it was.

    On success the trial holds the workload in its place and the victims no more; what they hold and the
    workload does not need stays taken, because they are there until their grace ends. ``bounds``: what the
    quota leaves; ``Hold`` where it leaves nothing, and only a queue that gives something up helps.
    """
    if isinstance(bounds, Hold) and (bounds.never or bounds.code not in CURABLE):
        return None
    if not Outline.of(trial).helps(workload.priority) or within_tide(trial, workload) is None:
        return None
    search = _Search(trial, workload, bounds)
    mark = trial.mark()
    found = search.run()
    gone = search.displaced(found) if found is not None else ()
    search.taking.undo()
    trial.rollback(mark)
    return None if found is None else search.carry_out(found, gone)


def _least(workload: WorkloadView) -> WorkloadView:
    """Nobody loses places for ranks that it can do without."""
    if all(role.least == role.replicas for role in workload.roles):
        return workload
    roles = tuple(replace(role, replicas=role.least, min_replicas=None) for role in workload.roles)
    return replace(workload, roles=roles)


class _Search:
    """One search for room. Until ``carry_out`` everything happens within a mark. ``alone``: only its own
    queue gives it room."""

    def __init__(self, trial: Trial, workload: WorkloadView, bounds: Bounds | Hold) -> None:
        self.trial = trial
        self.workload = workload
        self.least = _least(workload)
        self.given = bounds
        self.victims = Victims.of(trial)
        affinity = workload.affinity
        self.wishes = bool(workload.labels or affinity.near or affinity.apart)
        self.taking = Taking(trial, heed_neighbours=self.wishes)
        self.claim = Claim(trial, self.least)
        self.alone = False

    def run(self) -> Placement | None:
        """Where the gang goes once all of ``taking`` is taken."""
        waiting = self._after_grace()
        if waiting is not None:
            return waiting
        kinds = self.claim.open_classes(self.victims.classes)
        if not kinds:
            return None
        self.alone = all(kind.queue == self.workload.queue for kind in kinds)
        for bounds in self._options(kinds):
            if self._enough(kinds, bounds):
                for domain in self._domains(bounds):
                    placement = self._clear(kinds, bounds, domain)
                    if placement is not None:
                        return placement
        return None

    # -- what leaves anyway

    def _after_grace(self) -> Placement | None:
        """Where it goes when all that leaves is gone; they stay out of sight from here on."""
        running = self.trial.running
        leaving = [one for one in self.victims.soon_gone if running.get(one.workload.uid) is one]
        for one in leaving:
            self.taking.set_aside(one)
        return self._place() if leaving else None

    def _place(self) -> Placement | None:
        """On the pool and within the quota as they are now."""
        bounds = self._bounds()
        found = self.trial.place(self.least, bounds) if isinstance(bounds, Bounds) else None
        return found if isinstance(found, tuple) else None

    def _bounds(self) -> Bounds | Hold:
        bounds = self.trial.bounds_for(self.least)
        if isinstance(bounds, Bounds) and isinstance(self.given, Bounds):
            bounds = Bounds(bounds.models, self.given.only)
        if self.alone and isinstance(bounds, Bounds):
            models = self.trial.needs(self.least) if bounds.models is None else bounds.models
            kept = self.claim.unborrowed(models)
            return bounds if len(kept) == len(models) else Bounds(kept, bounds.only)
        return bounds

    # -- what can be ruled out at once

    def _options(self, kinds: set[Class]) -> Iterator[Bounds]:
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
            for model, millis in self.victims.shelves.millis[kind].items():
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

    def _enough(self, kinds: set[Class], bounds: Bounds) -> bool:
        """Whether what is free and what may be taken add up to the gang."""
        shelves, trial = self.victims.shelves, self.trial
        free, takeable = self.victims.free_millis, shelves.millis_of(kinds)
        for role in self.least.roles:
            one = replace(self.least, roles=(replace(role, replicas=1, min_replicas=None),))
            needs = {
                model: millis
                for model, millis in trial.needs(one).items()
                if millis and (bounds.models is None or model in bounds.models)
            }
            room = sum(
                (free.get(model, 0) + takeable.get(model, 0)) // millis for model, millis in needs.items()
            )
            if role.request.count and room < role.replicas:
                return False
        return True

    def _domains(self, bounds: Bounds) -> Iterator[Sequence[int] | None]:
        """Sets of nodes that all ranks may go to; None = all nodes."""
        same = self.least.affinity.same
        if not same:
            yield bounds.only
            return
        pool, shelves = self.trial.pool, self.victims.shelves
        kinds = set(shelves.kinds)
        _, members = pool.geography.domains(same)
        shapes = [pool.shape(role.request, bounds.models) for role in self.least.roles]
        below = [
            shelves.bounds_below(shape, kinds, role.least)
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
            yield members[number]

    # -- taking

    def _clear(self, kinds: set[Class], bounds: Bounds, domain: Sequence[int] | None) -> Placement | None:
        """Clear nodes, loosen the quota, place the gang by the ordinary rules, and give back what it turns
        out not to need. None leaves everything as it was before."""
        mark, before = self.trial.mark(), self.taking.saved()
        selection = Selection(
            self.trial,
            self.least,
            bounds,
            self.claim,
            kinds,
            self.taking,
            self.victims.shelves,
            domain,
            self._shunned(),
            bool(set(self.least.affinity.apart) & set(self.least.labels)),
        )
        seats = selection.run()
        if seats is not None:
            self.trial.pool.vacate(seats)
            placement = self._place() or self._loosen(selection)
            if placement is not None:
                return self._refine(self._fill_back(placement))
        self.trial.rollback(mark)
        self.taking.restore(before)
        return None

    def _shunned(self) -> set[int]:
        """Nodes that it must keep apart from."""
        names = self.trial.neighbours.closed_to(self.least) if self.wishes else set()
        return {number for number in map(self.trial.pool.number, names) if number is not None}

    def _loosen(self, selection: Selection) -> Placement | None:
        """Where the quota does not leave what was cleared: take more, cheapest first, until it does."""
        bounds, step = self._bounds(), 1
        if bounds == selection.bounds:
            return None
        priced = [
            (item.price, node, number, item)
            for node in sorted(self.victims.shelves.at)
            for number, item in enumerate(selection.items(node))
        ]
        cheapest = [item for _, _, _, item in sorted(priced, key=lambda each: each[:3])]
        while cheapest:
            batch, cheapest = cheapest[:step], cheapest[step:]
            for item in batch:
                if self._is_there(*item.key):
                    selection.take([item])
            before, bounds = bounds, self._bounds()
            placement = self._place() if bounds != before else None
            if placement is not None:
                return placement
            step *= 2
        return None

    def _is_there(self, held: Held, rank: Assignment | None) -> bool:
        left = self.taking.placement(held)
        if rank is None:
            return bool(left)
        return any((one.role, one.replica) == (rank.role, rank.replica) for one in left)

    # -- giving back

    def _fill_back(self, placement: Placement) -> Placement:
        """Victims that fit beside the gang keep their places: workloads before ranks, the dearest first."""
        crowded = {one.node for one in placement}
        for held in sorted(self.taking.killed.values(), key=_dearest):
            self._give_back(held, None, placement, crowded)
        for held, rank in self._shrunk_ranks():
            self._give_back(held, rank, placement, crowded)
        return placement

    def _give_back(
        self, held: Held, rank: Assignment | None, placement: Placement, crowded: set[str]
    ) -> bool:
        places = self.trial.running[held.workload.uid].placement if rank is None else (rank,)
        if not self._tolerates(held.workload, places, crowded):
            return False
        self._return(held, rank)
        if self._quota_allows(placement):
            return True
        self._take(held, rank)
        return False

    def _tolerates(self, other: WorkloadView, places: Placement, crowded: set[str]) -> bool:
        """Whether these places can stay taken beside the gang, which is on the ``crowded`` nodes."""
        if keep_apart(self.workload, other) and any(one.node in crowded for one in places):
            return False
        return fits_beside(self.trial.pool, places, crowded)

    def _refine(self, placement: Placement) -> Placement:
        """Of few victims, let go those without whom the gang fits elsewhere."""
        victims: list[tuple[Held, Assignment | None]] = [
            (held, None) for held in sorted(self.taking.killed.values(), key=_dearest)
        ]
        victims += self._shrunk_ranks()
        if len(victims) > REFINED:
            return placement
        for held, rank in victims:
            mark, before = self.trial.mark(), self.taking.saved()
            self.trial.pool.vacate(placement)
            self._return(held, rank)
            elsewhere = self._place()
            if elsewhere is None:
                self.trial.rollback(mark)
                self.taking.restore(before)
            else:
                placement = elsewhere
        return placement

    def _return(self, held: Held, rank: Assignment | None) -> None:
        if rank is None:
            self.taking.revive(held)
        else:
            self.taking.regrow(held, rank)

    def _take(self, held: Held, rank: Assignment | None) -> None:
        if rank is None:
            self.taking.kill(held)
        else:
            self.taking.shrink(held, rank)

    def _shrunk_ranks(self) -> list[tuple[Held, Assignment | None]]:
        """The lowest replica numbers first: the highest go."""
        shrunk = sorted(self.taking.shrunk.values(), key=lambda pair: _dearest(pair[0]))
        return [
            (held, rank)
            for held, ranks in shrunk
            for rank in sorted(ranks, key=lambda one: (one.role, one.replica))
        ]

    def _quota_allows(self, placement: Placement) -> bool:
        return self.trial.tree.check(self.workload.queue, millis_by_model(placement)) is None

    # -- in the end

    def displaced(self, placement: Placement) -> tuple[str, ...]:
        """Which of those that leave the gang waits for."""
        crowded, gone = {one.node for one in placement}, []
        for one in self.taking.aside:
            if self._tolerates(one.workload, one.placement, crowded):
                self.trial.pool.occupy(one.placement)
            else:
                gone.append(one.workload.uid)
        return tuple(gone)

    def carry_out(self, placement: Placement, displaced: Iterable[str]) -> Room:
        """Decide it. ``displaced``: what leaves and is waited for."""
        trial, gone = self.trial, list[Assignment]()
        victims, resizes = self._preempts(), self._resizes()
        for uid in (*displaced, *(victim.uid for victim in victims)):
            gone += trial.evict(uid).placement
        for resize in resizes:
            gone += self.taking.shrunk[resize.uid][1]
            trial.resize(resize.uid, resize.placement)
        trial.pool.occupy(placement)
        trial.admit(self.workload, placement)
        trial.pool.occupy(shadows(gone, placement))
        if victims:
            self.victims.shelves.bury(self.taking.killed.values())
        return Room(resizes, victims, placement)

    def _preempts(self) -> tuple[Preempt, ...]:
        killed = sorted(self.taking.killed.values(), key=_cheapest)
        return tuple(Preempt(held.workload.uid, self.workload.uid, self._because(held)) for held in killed)

    def _resizes(self) -> tuple[Resize, ...]:
        shrunk = sorted(self.taking.shrunk.values(), key=lambda pair: _cheapest(pair[0]))
        return tuple(
            Resize(
                held.workload.uid,
                without(self.trial.running[held.workload.uid].placement, ranks),
                f"gives up {len(ranks)} rank{'s' if len(ranks) > 1 else ''}: {self._because(held)}",
                self.workload.uid,
            )
            for held, ranks in shrunk
        )

    def _because(self, held: Held) -> str:
        """The claimant may be of another tenant: only its queue is told."""
        queue = self.workload.queue
        if held.workload.priority < self.workload.priority:
            mine, theirs = held.workload.priority, self.workload.priority
            return f"a workload of queue {queue} has priority {theirs} over {mine}"
        return f"queue {queue} takes back what {held.workload.queue} borrowed"


def _cheapest(held: Held) -> tuple[int, int, str]:
    return held.price, -held.running.started_ms, held.workload.uid


def _dearest(held: Held) -> tuple[int, int, str]:
    return -held.price, held.running.started_ms, held.workload.uid
