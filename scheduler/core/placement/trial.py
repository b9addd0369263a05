"""A cycle under way: the pool, the quota books and what runs, changed together and undone together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar, cast

from scheduler.core.model.types import Assignment, Placement, Policy, QueueView, RunningView, WorkloadView
from scheduler.core.placement.affinity import AffinityIndex, has_wishes
from scheduler.core.placement.asks import Ask, Asks
from scheduler.core.placement.changes import Change, Charge
from scheduler.core.placement.holdings import items_by_model, millis_by_model
from scheduler.core.placement.outline import Outline, RunningSummary
from scheduler.core.placement.placing import ANYWHERE, Bounds, Stuck, place_gang
from scheduler.core.placement.residual import residual_capacity
from scheduler.core.placement.snapshot import Snapshot
from scheduler.core.pool.layout import ModelKey
from scheduler.core.pool.pool import Pool
from scheduler.core.quota.pledges import Pledges
from scheduler.core.quota.precedence import Precedence
from scheduler.core.quota.quota import QuotaRefusal, QuotaTree

T = TypeVar("T")
Mark = tuple[int, int]
"""How much has been changed so far: on the pool, and of all else."""


class Trial:
    """``mark``/``rollback`` bracket all that is changed: the pool, the quota books, who is where, what is
    residual and seated, and what others ``remember`` here. ``residual``: on the pool, what those who give up
    their places for others hold beyond what these take in their stead; ``seated``: who holds nominated places
    and waits for others to leave them."""

    def __init__(self, snapshot: Snapshot, policy: Policy, now_ms: int) -> None:
        self.pool = snapshot.pool
        self.policy = policy
        self.now_ms = now_ms
        self.capacity = self.pool.capacity_millis()
        self.tree = snapshot.books or keep_books(snapshot.queues, self.pool, snapshot.running)
        self._base = snapshot.running
        self._summary = snapshot.summary
        self._outline: Outline | None = None
        self._running: dict[str, RunningView] | None = None
        self._affinity_index: AffinityIndex | None = None
        self._pledges: Pledges | None = None
        self._precedence: Precedence | None = None
        self._overlay: dict[str, RunningView | None] = {}
        self._admitted: list[Change] = []
        self._log: list[Change | Charge | Callable[[], object]] = []
        self.residual: Placement = ()
        self.seated: set[str] = set()
        self.asks = Asks(self.pool)
        self._once: dict[type, object] = {}

    def once(self, kind: type[T], make: Callable[[Trial], T]) -> T:
        """What those who work on the trial keep until its end, one of a kind; made when first asked for."""
        found = self._once.get(kind)
        if found is None:
            found = self._once[kind] = make(self)
        return cast("T", found)

    @property
    def at_start(self) -> tuple[RunningView, ...]:
        """What held places when the trial began."""
        return self._base

    @property
    def outline(self) -> Outline:
        """That of what held places when the trial began; made when first asked for."""
        if self._outline is None:
            ripe_ms = self.now_ms - self.tree.least_reclaim_seconds(self.policy.min_run_seconds) * 1000
            self._outline = (self._summary or RunningSummary(self._base)).outline(ripe_ms)
        return self._outline

    @property
    def running(self) -> dict[str, RunningView]:
        """What holds places now, by uid; made when first asked for."""
        changed_too = self.changed
        if self._running is None:
            self._running = {running.workload.uid: running for running in self._base}
            for uid, changed in changed_too.items():
                if changed is None:
                    self._running.pop(uid, None)
                else:
                    self._running[uid] = changed
        return self._running

    @property
    def changed(self) -> Mapping[str, RunningView | None]:
        """What changed since the trial began, by uid, as it is now; None = it holds nothing any more."""
        self._view_admitted()
        return self._overlay

    @property
    def affinity_index(self) -> AffinityIndex:
        """Who is where, by labels; made when first asked for."""
        return self._affinity_index or self.build_affinity_index()

    def build_affinity_index(self) -> AffinityIndex:
        """Make them where there are none yet: before anybody is lifted who still counts as running."""
        if self._affinity_index is None:
            self._affinity_index = AffinityIndex()
            for running in self.running.values():
                self._affinity_index.add(running.workload, running.placement)
            for change in self._lifted():
                if change.is_whole:
                    self._update_affinity_index(change.workload, change.went, -1)
                    self._update_affinity_index(change.workload, change.came, 1)
        return self._affinity_index

    @property
    def pledges(self) -> Pledges:
        """What holds places and may not be preempted; made when first asked for."""
        if self._pledges is None:
            self._pledges = Pledges(self.tree)
            for running in self.running.values():
                if not running.workload.preemptible:
                    self._pledges.change(running.workload, millis_by_model(running.placement), 1)
            for change in self._lifted():
                if not change.workload.preemptible:
                    self._pledges.change(change.workload, millis_by_model(change.went), -1)
                    self._pledges.change(change.workload, millis_by_model(change.came), 1)
        return self._pledges

    @property
    def precedence(self) -> Precedence:
        """What holds places, by queue and priority; made when first asked for."""
        if self._precedence is None:
            self._precedence = Precedence(self.running.values())
            for change in self._lifted():
                self._precedence.change(change.workload, change.went, -1)
                self._precedence.change(change.workload, change.came, 1)
        return self._precedence

    def _lifted(self) -> list[Change]:
        """What was lifted, or laid back, and still counts as running."""
        return [change for change in self._log if isinstance(change, Change) and not change.is_view]

    # -- trying and undoing

    def mark(self) -> Mark:
        """A point to which ``rollback`` returns."""
        return self.pool.mark(), len(self._log)

    def remember(self, undo: Callable[[], object]) -> None:
        """Somebody who works on the trial has changed something of its own: ``undo`` it with all else."""
        self._log.append(undo)

    def rollback(self, mark: Mark) -> None:
        """Undo everything since ``mark``, the last first."""
        self._view_admitted()
        self.pool.rollback(mark[0])
        net: dict[tuple[str, ModelKey], int] = {}
        while len(self._log) > mark[1]:
            change = self._log.pop()
            if isinstance(change, Change):
                self._undo(change, net)
            elif isinstance(change, Charge):
                queue, model, millis = change
                net[queue, model] = net.get((queue, model), 0) - millis
            else:
                change()
        for (queue, model), millis in net.items():
            if millis > 0:
                self.tree.charge(queue, model, millis)
            elif millis < 0:
                self.tree.refund(queue, model, -millis)

    def _undo(self, change: Change, net: dict[tuple[str, ModelKey], int]) -> None:
        """All but what it means for the quota books, which is added to ``net``."""
        workload = change.workload
        for placement, sign in ((change.came, -1), (change.went, 1)):
            for model, millis in millis_by_model(placement).items():
                net[workload.queue, model] = net.get((workload.queue, model), 0) + sign * millis
            self._note(workload, placement, sign)
            if change.is_whole:
                self._update_affinity_index(workload, placement, sign)
        if change.is_view:
            self._put(workload.uid, change.before)

    def keep(self, mark: Mark, admitted: Sequence[tuple[WorkloadView, Placement]]) -> None:
        """End the trial: undo everything since ``mark`` but that these were admitted, and forget how to undo
        that."""
        ranks = sum(len(placement) for _, placement in admitted)
        if len(self._log) - mark[1] == len(admitted) and self.pool.settle(mark[0], ranks):
            return
        self.rollback(mark)
        for workload, placement in admitted:
            self.pool.occupy(placement)
            self._book(workload, placement, 1)
        self.pool.settle(mark[0], ranks)

    # -- changes

    def admit(self, workload: WorkloadView, placement: Placement) -> None:
        """It holds these places from now on; they are on the pool already (``place`` put them there)."""
        self._log.append(change := Change(workload, placement, ()))
        self._book(workload, placement, 1)
        self._admitted.append(change)

    def evict(self, uid: str) -> RunningView:
        """Take a running workload off the pool and the books."""
        running = self.running[uid]
        self._put(uid, None)
        self._log.append(Change(running.workload, (), running.placement, running))
        self._book(running.workload, running.placement, -1)
        self.pool.vacate(running.placement)
        return running

    def resize(self, uid: str, placement: Placement) -> None:
        """A running workload holds these places instead."""
        running = self.running[uid]
        self._log.append(Change(running.workload, placement, running.placement, running))
        self._book(running.workload, running.placement, -1)
        self._book(running.workload, placement, 1)
        self.pool.vacate(running.placement)
        self.pool.occupy(placement)
        self._put(uid, replace(running, placement=placement, resized_ms=self.now_ms))

    def lift(self, workload: WorkloadView, placement: Placement, *, whole: bool) -> None:
        """Take places of what runs, ``whole`` or a part, off the pool and the books; it still counts as
        running."""
        self._log.append(Change(workload, (), placement, is_view=False, is_whole=whole))
        self._book(workload, placement, -1, whole)
        self.pool.vacate(placement)

    def lay_back(self, workload: WorkloadView, placement: Placement, *, whole: bool) -> None:
        """The opposite of ``lift``."""
        self._log.append(Change(workload, placement, (), is_view=False, is_whole=whole))
        self._book(workload, placement, 1, whole)
        self.pool.occupy(placement)

    def charge(self, queue: str, model: ModelKey, millis: int) -> None:
        """On the quota books alone the queue uses so much more (below zero: less), to ask what would be."""
        self._log.append(Charge(queue, model, millis))
        if millis < 0:
            self.tree.refund(queue, model, -millis)
        else:
            self.tree.charge(queue, model, millis)

    def seat(self, uid: str) -> None:
        """It holds its nominated places now and waits for others to leave them."""
        self.seated.add(uid)
        self.remember(partial(self.seated.discard, uid))

    def unseat(self, uid: str) -> None:
        """Another one gets the places that it holds."""
        self.seated.remove(uid)
        self.remember(partial(self.seated.add, uid))

    def _view_admitted(self) -> None:
        """Views of what was admitted are made when somebody asks."""
        for change in self._admitted:
            self._put(change.workload.uid, RunningView(change.workload, change.came, self.now_ms))
        self._admitted.clear()

    def _put(self, uid: str, running: RunningView | None) -> None:
        self._overlay[uid] = running
        if self._running is not None:
            if running is None:
                self._running.pop(uid, None)
            else:
                self._running[uid] = running

    def _book(self, workload: WorkloadView, placement: Placement, sign: int, whole: bool = True) -> None:
        if not placement:
            return
        for model, millis in items_by_model(placement):
            if sign > 0:
                self.tree.charge(workload.queue, model, millis)
            else:
                self.tree.refund(workload.queue, model, millis)
        self._note(workload, placement, sign)
        if self._affinity_index is not None and whole:
            self._update_affinity_index(workload, placement, sign)

    def _update_affinity_index(self, workload: WorkloadView, placement: Placement, sign: int) -> None:
        if self._affinity_index is not None and placement:
            change = self._affinity_index.add if sign > 0 else self._affinity_index.remove
            change(workload, placement)

    def _note(self, workload: WorkloadView, placement: Placement, sign: int) -> None:
        """In the books that somebody has asked for."""
        if self._pledges is not None and not workload.preemptible:
            self._pledges.change(workload, millis_by_model(placement), sign)
        if self._precedence is not None and placement:
            self._precedence.change(workload, placement, sign)

    def keep_residual(self, gone: Iterable[Assignment], come: Placement) -> None:
        """``gone`` ranks, which are off the pool, make way for ``come``: what they hold beyond that stays
        taken until they have really left, for all but those who wait for it themselves."""
        met, far = self._residual_by(come)
        left = residual_capacity((*met, *gone), come)
        self.pool.vacate(met)
        self.pool.occupy(left)
        before, self.residual = self.residual, (*far, *left)
        if self.residual != before:
            self.remember(partial(setattr, self, "residual", before))

    def meets_residual(self, come: Placement) -> bool:
        """Whether places come where others must have left before."""
        met, far = self._residual_by(come)
        return (*far, *residual_capacity(met, come)) != self.residual

    def _residual_by(self, come: Placement) -> tuple[Placement, Placement]:
        """What is residual on nodes of these places, and elsewhere."""
        nodes = {rank.node for rank in come}
        met = tuple(rank for rank in self.residual if rank.node in nodes)
        return met, tuple(rank for rank in self.residual if rank.node not in nodes)

    # -- questions

    def place(self, workload: WorkloadView, bounds: Bounds = ANYWHERE) -> Placement | Stuck:
        """Put the gang on the pool (not yet on the books), or say which role is stuck."""
        wishes = has_wishes(workload)
        return place_gang(workload, self.pool, self.policy, self.affinity_index if wishes else None, bounds)

    def bounds_for(self, workload: WorkloadView) -> Bounds | QuotaRefusal:
        """What the queue's quota leaves it: models with room for all of it; a refusal where there is none."""
        refusal = self.tree.refusal(workload.queue, workload.allowed_queues, workload.project)
        if refusal is not None:
            return refusal
        ask = self.asks.of(workload)
        open_models = self._open_models(workload.queue, ask)
        if not workload.preemptible and ask.needs:
            pledged = self.pledges.open_models(workload.queue, ask.needs)
            open_models = tuple(model for model in open_models if model in pledged)
        if len(open_models) == len(ask.needs):
            return ANYWHERE
        if open_models:
            return Bounds(models=tuple(sorted(open_models)))
        refusals = self._refusals(workload, ask)
        first = next(refusals)
        if first is not None and first.never:
            first = next(
                (refusal for refusal in refusals if refusal is not None and not refusal.never), first
            )
        return first or ANYWHERE

    def _refusals(self, workload: WorkloadView, ask: Ask) -> Iterator[QuotaRefusal | None]:
        """For each model that may serve it."""
        for model, millis in ask.needs.items():
            need = {model: millis}
            refusal = None if workload.preemptible else self.pledges.refusal(workload.queue, need)
            yield refusal or self.tree.check(workload.queue, need)

    def _open_models(self, queue: str, ask: Ask) -> tuple[ModelKey, ...]:
        open_models: tuple[ModelKey, ...] = ()
        for millis, alternatives in ask.together:
            openings = alternatives.openings.get(queue)
            if openings is None:
                openings = alternatives.openings[queue] = self.tree.openings(queue, alternatives.models)
            open_models += openings.open_to(millis)
        return open_models

    def refusal(self, workload: WorkloadView, placement: Placement) -> QuotaRefusal | None:
        """Why the quota of its queue does not cover these places, which are not on the books; None = it
        does."""
        held = millis_by_model(placement)
        refusal = self.tree.check(workload.queue, held)
        if refusal is None and not workload.preemptible:
            refusal = self.pledges.refusal(workload.queue, held)
        return refusal

    def needs(self, workload: WorkloadView) -> dict[ModelKey, int]:
        """For each model that may serve all or a part of it, the millis that the least of the gang would
        take."""
        return self.asks.of(workload).needs


def keep_books(queues: Sequence[QueueView], pool: Pool, running: Iterable[RunningView]) -> QuotaTree:
    """The quota tree with what runs on it."""
    tree = QuotaTree(queues, pool.capacity_millis())
    held: dict[tuple[str, ModelKey], int] = {}
    for one in running:
        for model, millis in millis_by_model(one.placement).items():
            key = (one.workload.queue, model)
            held[key] = held.get(key, 0) + millis
    for (queue, model), millis in held.items():
        tree.charge(queue, model, millis)
    return tree
