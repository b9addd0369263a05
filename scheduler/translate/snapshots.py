"""The snapshot of each pass. The pool is kept between passes and told only what has changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from common.guard import fault_of
from common.resources import Workload
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
from scheduler.core.quota.spending import PERIODS, Spent, renews_ms
from scheduler.core.reshape.elastic import is_elastic
from scheduler.translate.deciding import decide
from scheduler.translate.kept_books import KeptBooks
from scheduler.translate.views import World, holds_places, node_view, queue_views, running_views

_log = get_logger(__name__)
LINGERING = ""
"""Stands for the uid of all processes that still stop although no workload holds their places."""


MIX_MS = 600_000
"""How long fragmentation is judged by one mix of requests: a new one makes every place to be judged anew."""
MIX_WORKLOADS = 32
"""From so many workloads on their own mix says more than the usual one."""


class SnapshotKeeper:
    """Owns the pool, the quota books and the views of all that runs, and tells them what has changed. The
    pool is made anew when nodes or devices come or go: a placement may be known before its device is."""

    def __init__(self, catalogue: Catalogue, default_grace_seconds: float) -> None:
        self._catalogue = catalogue
        self._grace_seconds = default_grace_seconds
        self._pool: Pool | None = None
        self._nodes: dict[str, NodeView] = {}
        self._stale_nodes: set[str] = set()
        self._flapping: set[str] = set()
        self._views: dict[str, list[RunningView]] = {}
        self._running: tuple[RunningView, ...] | None = None
        self._wanted: dict[str, Placement] = {}
        self._placed: dict[str, Placement] = {}
        self._stale: set[str] = set()
        self._flexible: set[str] = set()
        self._books = KeptBooks()
        self._summary = RunningSummary()
        self._queue_key: object = None
        self._queue_tuple: tuple[QueueView, ...] = ()
        self._spent_kept: Mapping[str, Mapping[str, Spent]] = {}
        self._workload_mix, self._mix_ms = USUAL, -MIX_MS
        self.faults: dict[tuple[str, str], Exception] = {}
        """What cannot be looked at, by kind and name (workloads: uid), and why."""

    # -- looking at what has changed

    def follow(self, world: World, uids: Iterable[str], names: Iterable[str], now_ms: int) -> None:
        """Look at these workloads and nodes anew, and at what could not be looked at before."""
        failing = {kind: {key for of, key in self.faults if of == kind} for kind in ("Workload", "Node")}
        for uid in {*uids, *failing["Workload"]}:
            self._look(uid, world)
        for name in {*names, *failing["Node"], *self._flapping}:
            self._look_at_node(name, world, now_ms)

    def _look(self, uid: str, world: World) -> None:
        """What cannot be looked at is in ``faults``, and holds no places here."""
        self.faults.pop(("Workload", uid), None)
        workload, views = world.workloads.get(uid), list[RunningView]()
        if workload is not None:
            try:
                views = running_views(workload, world, self._grace_seconds)
            except Exception as error:  # noqa: BLE001 - one workload's trouble is not the others'
                self.faults["Workload", uid] = error
        before = self._views.get(uid, [])
        if before == views:
            return
        for view in before:
            self._books.refund(view)
            self._summary.remove(view)
            self._wanted.pop(view.workload.uid, None)
            self._flexible.discard(view.workload.uid)
        for view in views:
            self._books.charge(view)
            self._summary.add(view)
            self._wanted[view.workload.uid] = view.placement
            if may_change(view.workload):
                self._flexible.add(view.workload.uid)
        self._stale.update(view.workload.uid for view in (*before, *views))
        self._running = None
        if views:
            self._views[uid] = views
        else:
            self._views.pop(uid, None)

    def _look_at_node(self, name: str, world: World, now_ms: int) -> None:
        self.faults.pop(("Node", name), None)
        self._flapping.discard(name)
        node, view, before = world.nodes.get(name), None, self._nodes.get(name)
        if node is not None:
            try:
                view = node_view(node, self._catalogue, now_ms)
            except Exception as error:  # noqa: BLE001 - one node's trouble is not the others'
                self.faults["Node", name] = error
        if view is not None and view.flapping_until_ms:
            self._flapping.add(name)
        if view == before:
            return
        if _hardware(view) != _hardware(before):
            self.forget()
        self._stale_nodes.add(name)
        if view is None:
            del self._nodes[name]
        else:
            self._nodes[name] = view

    @property
    def running(self) -> tuple[RunningView, ...]:
        """All that holds places, as last looked at."""
        if self._running is None:
            self._running = tuple(view for views in self._views.values() for view in views)
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
        world: World,
        pending: Sequence[WorkloadView],
        lingering: Placement,
        spent: Mapping[str, Mapping[str, Spent]],
        now_ms: int,
        running: Sequence[RunningView] | None = None,
    ) -> Snapshot:
        """What was looked at as a cycle sees it. ``running``: those that it is about, where it is not about
        all; what the others hold is among what is ``lingering`` then. Queues that cannot be looked at are
        left out and told in ``faults``."""
        everything = running is None or running is self._running
        running = self.running if running is None else tuple(running)
        if not everything:
            self._wanted_only(running)
        self._wanted[LINGERING] = tuple(lingering)
        self._stale.add(LINGERING)
        pool, waiting = self._follow_pool(), tuple(pending)
        queues = self._queue_views(world, spent, now_ms)
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
        pending = {view.uid: view for view in snapshot.pending}
        for each in decisions:
            if isinstance(each, Admit):
                self._placed[each.uid] = each.placement
                self._stale.add(each.uid)
                if snapshot.books is not None:
                    self._books.admitted(pending[each.uid].queue, each.placement)
        return decisions

    def _queue_views(
        self, world: World, spent: Mapping[str, Mapping[str, Spent]], now_ms: int
    ) -> tuple[QueueView, ...]:
        """Made anew only when a queue or what it has used is another one, or a period has ended. What nobody
        but the store knows to be used changes with the stored queue."""
        now = tuple(
            (name, queue.metadata.uid, queue.metadata.generation, id(used))
            if (used := spent.get(name))
            else (name, queue.metadata.uid, queue.metadata.resource_version)
            for name, queue in world.queues.items()
        )
        key = (now, tuple(renews_ms(period, now_ms) for period in PERIODS))
        faulty = any(kind == "Queue" for kind, _ in self.faults)
        known, views = self._queue_key, self._queue_tuple
        if (
            views
            and known == key
            and not faulty
            and all(queue.metadata.uid for queue in world.queues.values())
        ):
            return views
        for fault in [fault for fault in self.faults if fault[0] == "Queue"]:
            del self.faults[fault]
        self._spent_kept = dict(spent)
        self._queue_key, self._queue_tuple = key, queue_views(world, spent, now_ms, self.faults)
        return self._queue_tuple

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


def held_attempts(workload: Workload | None) -> tuple[int, ...]:
    """The attempts of it whose places are held by the workload."""
    if workload is None or not holds_places(workload):
        return ()
    successor = workload.status.next
    return (workload.status.attempt, *([successor.attempt] if successor else []))
