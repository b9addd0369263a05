"""The views of a cycle, kept from cycle to cycle: the pool, the quota books and all that runs are told only
what has changed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from common.guard import fault_of
from common.telemetry import get_logger
from scheduler.core.fragmentation.fragmentation import Fragmentation
from scheduler.core.fragmentation.workload_mix import USUAL, workload_mix_of
from scheduler.core.model.catalogue import Catalogue
from scheduler.core.model.types import (
    Admit,
    Decision,
    NodeView,
    Placement,
    Policy,
    QueueView,
    RunningView,
    WorkloadView,
)
from scheduler.core.placement.outline import RunningSummary
from scheduler.core.placement.snapshot import Snapshot
from scheduler.core.pool.pool import Pool
from scheduler.core.reshape.elastic import is_elastic
from scheduler.translate.deciding import decide
from scheduler.translate.kept_books import KeptBooks

_log = get_logger(__name__)
LINGERING = ""
"""Stands for the uid of all processes that still stop although no workload holds their places."""
MIX_MS = 600_000
"""How long fragmentation is judged by one mix of requests: a new one makes every place to be judged anew."""
MIX_WORKLOADS = 32
"""From so many workloads on their own mix says more than the usual one."""


class ViewKeeper:
    """Owns the pool, the quota books and the views of all that runs. The pool is made anew when nodes or
    devices come or go: a placement may be known before its device is."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._pool: Pool | None = None
        self._nodes: dict[str, NodeView] = {}
        self._stale_nodes: set[str] = set()
        self._views: dict[str, Sequence[RunningView]] = {}
        self._running: tuple[RunningView, ...] | None = None
        self._wanted: dict[str, Placement] = {}
        self._placed: dict[str, Placement] = {}
        self._stale: set[str] = set()
        self._flexible: set[str] = set()
        self._books = KeptBooks()
        self._summary = RunningSummary()
        self._workload_mix, self._mix_ms = USUAL, -MIX_MS

    # -- what has changed

    def set_node(self, name: str, view: NodeView | None) -> None:
        """The node is as it is seen here from now on; None = it is not there."""
        before = self._nodes.get(name)
        if view == before:
            return
        if _hardware(view) != _hardware(before):
            self.forget()
        self._stale_nodes.add(name)
        if view is None:
            del self._nodes[name]
        else:
            self._nodes[name] = view

    def set_running(self, uid: str, views: Sequence[RunningView]) -> None:
        """What holds places for the workload from now on: it, and its successor; none = nothing does."""
        before = self._views.get(uid, ())
        if len(before) == len(views) and all(old == new for old, new in zip(before, views, strict=True)):
            return
        for view in before:
            self._drop(view)
        for view in views:
            self._hold(view)
        self._running = None
        if views:
            self._views[uid] = views
        else:
            self._views.pop(uid, None)

    def _hold(self, view: RunningView) -> None:
        workload = view.workload
        self._books.charge(view)
        self._summary.add(view)
        self._wanted[workload.uid] = view.placement
        self._stale.add(workload.uid)
        if may_change(workload):
            self._flexible.add(workload.uid)

    def _drop(self, view: RunningView) -> None:
        uid = view.workload.uid
        self._books.refund(view)
        self._summary.remove(view)
        self._wanted.pop(uid, None)
        self._stale.add(uid)
        self._flexible.discard(uid)

    @property
    def running(self) -> tuple[RunningView, ...]:
        """All that holds places, as last looked at."""
        if self._running is None:
            self._running = tuple(chain.from_iterable(self._views.values()))
        return self._running

    @property
    def is_flexible(self) -> bool:
        """Whether anything that runs may be resized or moved."""
        return bool(self._flexible)

    def forget(self) -> None:
        """Make the pool and the books anew: a cycle broke, so they may be in disorder."""
        self._pool = None
        self._books.forget()

    # -- snapshots

    def take(
        self,
        queues: tuple[QueueView, ...],
        pending: Sequence[WorkloadView],
        lingering: Placement,
        now_ms: int,
        running: Sequence[RunningView] | None = None,
    ) -> Snapshot:
        """All of it as a cycle sees it. ``queues``: the same object while they are the same; ``running``:
        those that it is about, where it is not about all; what the others hold is among what is ``lingering``
        then."""
        everything = running is None or running is self._running
        running = self.running if running is None else tuple(running)
        if not everything:
            self._wanted_only(running)
        self._wanted[LINGERING] = tuple(lingering)
        self._stale.add(LINGERING)
        pool, waiting = self._follow_pool(), tuple(pending)
        books = self._books.take(queues, pool) if everything else None
        if not everything:
            self._want_all()
        workload_mix = self._usual(waiting, running, now_ms)
        flexible = self.is_flexible or any(may_change(view) for view in waiting)
        summary = self._summary if everything else None
        return Snapshot(pool, queues, waiting, running, workload_mix, books, flexible, summary)

    def _wanted_only(self, running: Sequence[RunningView]) -> None:
        self._stale |= self._wanted.keys()
        self._wanted = {view.workload.uid: view.placement for view in running}
        self._stale |= self._wanted.keys()

    def _want_all(self) -> None:
        """The next snapshot is about everything again."""
        lingering = self._wanted[LINGERING]
        self._wanted = {view.workload.uid: view.placement for view in self.running}
        self._wanted[LINGERING] = lingering
        self._stale |= self._wanted.keys()
        self._books.forget()

    def decide(self, snapshot: Snapshot, policy: Policy, now_ms: int) -> list[Decision]:
        """Run a cycle on the snapshot taken last. What it admits stays on the pool and the books, and is
        taken off again by the next ``take`` where it could not be carried out."""
        decisions = decide(snapshot, policy, now_ms, keep=True)
        queues = {view.uid: view.queue for view in snapshot.pending}
        for each in decisions:
            if isinstance(each, Admit):
                self._placed[each.uid] = each.placement
                self._stale.add(each.uid)
                if snapshot.books is not None:
                    self._books.admitted(queues[each.uid], each.placement)
        return decisions

    def _usual(
        self, waiting: Sequence[WorkloadView], running: Sequence[RunningView], now_ms: int
    ) -> Fragmentation:
        """What usually comes here, by what waits and runs; as it was where that cannot be told."""
        if now_ms - self._mix_ms >= MIX_MS and len(waiting) + len(running) >= MIX_WORKLOADS:
            self._mix_ms = now_ms
            try:
                self._workload_mix = workload_mix_of([*waiting, *(view.workload for view in running)])
            except Exception as error:  # noqa: BLE001 - it only guides scoring
                _log.warning("mix of requests not told", error=fault_of(error).message)
        return self._workload_mix

    def _follow_pool(self) -> Pool:
        if self._pool is None:
            nodes = [self._nodes[name] for name in sorted(self._nodes)]
            self._pool, self._placed = Pool(nodes, self._catalogue), {}
            self._stale, self._stale_nodes = set(self._wanted), set()
        pool, wanted, placed = self._pool, self._wanted, self._placed
        stale, self._stale = self._stale, set()
        other = [uid for uid in stale if placed.get(uid, ()) != wanted.get(uid, ())]
        for uid in other:
            pool.vacate(placed.pop(uid, ()))
        for name in self._stale_nodes:
            if name in self._nodes:
                pool.set_node(self._nodes[name])
        self._stale_nodes = set()
        for uid in other:
            placement = wanted.get(uid, ())
            if placement:
                pool.occupy(placement)
                placed[uid] = placement
        pool.commit()
        return pool


def may_change(view: WorkloadView) -> bool:
    """Whether it may be resized or moved while it runs."""
    return view.movable or is_elastic(view)


def _hardware(node: NodeView | None) -> tuple[str, ...] | None:
    return None if node is None else tuple(device.id for device in node.devices)
