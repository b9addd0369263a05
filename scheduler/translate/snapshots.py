"""The snapshot of each pass, made of what is stored: only what has changed is translated anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from common.resources import Workload
from scheduler.core.model.catalogue import Catalogue
from scheduler.core.model.types import (
    Decision,
    NodeView,
    Placement,
    Policy,
    QueueView,
    RunningView,
    WorkloadView,
)
from scheduler.core.placement.snapshot import Snapshot
from scheduler.core.quota.spending import PERIODS, Spent, renews_ms
from scheduler.translate.kept_views import ViewKeeper
from scheduler.translate.views import World, holds_places, node_view, queue_views, running_views


class SnapshotKeeper:
    """Translates nodes, queues and what runs as they change, and keeps their views."""

    def __init__(self, catalogue: Catalogue, default_grace_seconds: float) -> None:
        self._catalogue = catalogue
        self._grace_seconds = default_grace_seconds
        self._views = ViewKeeper(catalogue)
        self._flapping: set[str] = set()
        self._queue_key: object = None
        self._queue_tuple: tuple[QueueView, ...] = ()
        self._spent_kept: Mapping[str, Mapping[str, Spent]] = {}
        self.faults: dict[tuple[str, str], Exception] = {}
        """What cannot be looked at, by kind and name (workloads: uid), and why."""

    def follow(self, world: World, uids: Iterable[str], names: Iterable[str], now_ms: int) -> None:
        """Look at these workloads and nodes anew, and at what could not be looked at before."""
        for _ in self.looks(world, uids, names, now_ms):
            pass

    def looks(self, world: World, uids: Iterable[str], names: Iterable[str], now_ms: int) -> Iterator[None]:
        """The same, a look for each item: between them whoever asks may do something else."""
        failing = {kind: {key for of, key in self.faults if of == kind} for kind in ("Workload", "Node")}
        for uid in {*uids, *failing["Workload"]}:
            self._look(uid, world)
            yield
        for name in {*names, *failing["Node"], *self._flapping}:
            self._look_at_node(name, world, now_ms)
            yield

    def _look(self, uid: str, world: World) -> None:
        """What cannot be looked at is in ``faults``, and holds no places here."""
        self.faults.pop(("Workload", uid), None)
        workload, views = world.workloads.get(uid), list[RunningView]()
        if workload is not None:
            try:
                views = running_views(workload, world, self._grace_seconds)
            except Exception as error:  # noqa: BLE001 - one workload's trouble is not the others'
                self.faults["Workload", uid] = error
        self._views.set_running(uid, views)

    def _look_at_node(self, name: str, world: World, now_ms: int) -> None:
        self.faults.pop(("Node", name), None)
        self._flapping.discard(name)
        node = world.nodes.get(name)
        view: NodeView | None = None
        if node is not None:
            try:
                view = node_view(node, self._catalogue, now_ms)
            except Exception as error:  # noqa: BLE001 - one node's trouble is not the others'
                self.faults["Node", name] = error
        if view is not None and view.flapping_until_ms:
            self._flapping.add(name)
        self._views.set_node(name, view)

    @property
    def running(self) -> tuple[RunningView, ...]:
        """All that holds places, as last looked at."""
        return self._views.running

    @property
    def is_flexible(self) -> bool:
        """Whether anything that runs may be resized or moved."""
        return self._views.is_flexible

    def forget(self) -> None:
        """Make the pool and the books anew: a cycle broke, so they may be in disorder."""
        self._views.forget()

    def take(
        self,
        world: World,
        pending: Sequence[WorkloadView],
        lingering: Placement,
        spent: Mapping[str, Mapping[str, Spent]],
        now_ms: int,
        running: Sequence[RunningView] | None = None,
    ) -> Snapshot:
        """What was looked at as a cycle sees it, see ``ViewKeeper.take``. Queues that cannot be looked at are
        left out and told in ``faults``."""
        queues = self._queue_views(world, spent, now_ms)
        return self._views.take(queues, pending, lingering, now_ms, running)

    def decide(self, snapshot: Snapshot, policy: Policy, now_ms: int) -> list[Decision]:
        """Run a cycle on the snapshot taken last, see ``ViewKeeper.decide``."""
        return self._views.decide(snapshot, policy, now_ms)

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


def held_attempts(workload: Workload | None) -> tuple[int, ...]:
    """The attempts of it whose places are held by the workload."""
    if workload is None or not holds_places(workload):
        return ()
    successor = workload.status.next
    return (workload.status.attempt, *([successor.attempt] if successor else []))
