"""The snapshot of each pass. The pool is kept between passes and told only what has changed."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from common.guard import fault_of
from common.resources import Workload
from common.telemetry import get_logger
from scheduler.core.fragmentation.fragmentation import Fragmentation
from scheduler.core.fragmentation.mix import USUAL, mix_of
from scheduler.core.model.catalogue import Catalogue
from scheduler.core.model.types import (
    Admit,
    Assignment,
    Decision,
    NodeView,
    Placement,
    Policy,
    RunningView,
    WorkloadView,
)
from scheduler.core.placement.snapshot import Snapshot
from scheduler.core.pool.pool import Pool
from scheduler.core.quota.spending import Spent
from scheduler.translate.deciding import decide
from scheduler.translate.views import World, holds_places, node_view, queue_views, running_views

_log = get_logger(__name__)
LINGERING = ""
"""Stands for the uid of all processes that still stop although no workload holds their places."""


MIX_MS = 600_000
"""How long fragmentation is judged by one mix of requests: a new one makes every place to be judged anew."""
MIX_WORKLOADS = 32
"""From so many workloads on their own mix says more than the usual one."""


class SnapshotKeeper:
    """Owns the pool. It is made anew when nodes or devices come or go: a placement may be known before its
    device is."""

    def __init__(self, catalogue: Catalogue, default_grace_seconds: float) -> None:
        self._catalogue = catalogue
        self._grace_seconds = default_grace_seconds
        self._pool: Pool | None = None
        self._nodes: dict[str, NodeView] = {}
        self._placed: dict[str, Placement] = {}
        self._mix, self._mix_ms = USUAL, -MIX_MS
        self.faults: dict[tuple[str, str], Exception] = {}
        """What could not be looked at, by kind and name (workloads: uid), and why. The caller empties it."""

    def running(self, world: World) -> list[RunningView]:
        """All that holds places. What cannot be looked at is in ``faults``."""
        views: list[RunningView] = []
        for uid, workload in world.workloads.items():
            try:
                views += running_views(workload, world, self._grace_seconds)
            except Exception as error:  # noqa: BLE001 - one workload's trouble is not the others'
                self.faults["Workload", uid] = error
        return views

    def _node_views(self, world: World, now_ms: int) -> dict[str, NodeView]:
        views: dict[str, NodeView] = {}
        for name, node in world.nodes.items():
            try:
                views[name] = node_view(node, self._catalogue, now_ms)
            except Exception as error:  # noqa: BLE001 - one node's trouble is not the others'
                self.faults["Node", name] = error
        return views

    def forget(self) -> None:
        """Make the pool anew: a cycle broke, so it may be in disorder."""
        self._pool = None

    def take(
        self,
        world: World,
        pending: Iterable[WorkloadView],
        lingering: Sequence[Assignment],
        spent: Mapping[str, Mapping[str, Spent]],
        now_ms: int,
        running: Sequence[RunningView] | None = None,
    ) -> Snapshot:
        """The world as a cycle looks at it. ``running``: where it is known already. Nodes and queues that
        cannot be looked at are left out and told in ``faults``."""
        running = self.running(world) if running is None else running
        nodes = self._node_views(world, now_ms)
        placed = {view.workload.uid: view.placement for view in running}
        placed[LINGERING] = tuple(lingering)
        pool, waiting = self._follow(nodes, placed), tuple(pending)
        mix = self._usual([*waiting, *(view.workload for view in running)], now_ms)
        queues = queue_views(world, spent, now_ms, self.faults)
        return Snapshot(pool, queues, waiting, tuple(running), mix)

    def decide(self, snapshot: Snapshot, policy: Policy, now_ms: int) -> list[Decision]:
        """Run a cycle on the snapshot taken last. What it admits stays on the pool, and is taken off again by
        the next ``take`` where it could not be carried out."""
        decisions = decide(snapshot, policy, now_ms, keep=True)
        self._placed.update((each.uid, each.placement) for each in decisions if isinstance(each, Admit))
        return decisions

    def _usual(self, workloads: Sequence[WorkloadView], now_ms: int) -> Fragmentation:
        """What usually comes here, by what waits and runs; as it was where that cannot be told."""
        if now_ms - self._mix_ms >= MIX_MS and len(workloads) >= MIX_WORKLOADS:
            self._mix_ms = now_ms
            try:
                self._mix = mix_of(workloads)
            except Exception as error:  # noqa: BLE001 - it only guides scoring
                _log.warning("mix of requests not told", error=fault_of(error).message)
        return self._mix

    def _follow(self, nodes: dict[str, NodeView], placed: dict[str, Placement]) -> Pool:
        if self._pool is None or _hardware(nodes) != _hardware(self._nodes):
            self._pool, self._placed = Pool(nodes.values(), self._catalogue), {}
        else:
            for uid, placement in self._placed.items():
                if placed.get(uid) != placement:
                    self._pool.vacate(placement)
            self._placed = {uid: at for uid, at in self._placed.items() if placed.get(uid) == at}
            for name, view in nodes.items():
                if self._nodes.get(name) != view:
                    self._pool.set_node(view)
        for uid, placement in placed.items():
            if uid not in self._placed:
                self._pool.occupy(placement)
        self._nodes, self._placed = nodes, placed
        self._pool.commit()
        return self._pool


def _hardware(nodes: Mapping[str, NodeView]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(device.id for device in node.devices) for name, node in nodes.items()}


def holding(world: World, faults: Container[tuple[str, str]] = ()) -> set[tuple[str, int]]:
    """The gangs, (uid, attempt), whose places are held by their workload; not of those that cannot be looked
    at: of these it counts what runs."""
    return {
        (uid, attempt)
        for uid, workload in world.workloads.items()
        if ("Workload", uid) not in faults
        for attempt in _attempts(workload)
    }


def _attempts(workload: Workload) -> list[int]:
    if not holds_places(workload):
        return []
    successor = workload.status.next
    return [workload.status.attempt, *([successor.attempt] if successor else [])]
