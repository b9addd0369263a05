"""What must hold in every cycle, worked out from placements alone and never from the pool's own books."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.errors import ComputilityError
from scheduler.core.model.device_classes import CPU, classes_of
from scheduler.core.model.types import (
    WHOLE_MILLIS,
    Assignment,
    Defer,
    NodeView,
    Placement,
    QueueView,
    RunningView,
    Share,
    WorkloadView,
)

Model = tuple[str, str]


@dataclass
class InvariantBroken(ComputilityError):
    """The scheduler decided something that must never be. ``code`` says which rule, ``cycle`` where."""

    cycle: int = 0

    def __str__(self) -> str:
        return f"cycle {self.cycle}: {self.code}: {self.message}"


class Invariants:
    """Checks of one simulation. ``tolerance_seconds``: a promised start may be so late (cycles are not
    continuous, and victims have a grace period)."""

    def __init__(
        self, nodes: Sequence[NodeView], queues: Sequence[QueueView], tolerance_seconds: int = 0
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.queues = tuple(queues)
        self.cycle = 0
        self.tolerance_ms = tolerance_seconds * 1000
        self._promised: dict[str, int] = {}

    def broken(self, code: str, message: str) -> InvariantBroken:
        return InvariantBroken(message, code, cycle=self.cycle)

    # -- one decision

    def placed(self, placement: Placement, before: Placement = ()) -> None:
        """Ranks that were not there ``before`` are on nodes that may be used and on healthy devices of
        theirs."""
        there = {_place(assignment) for assignment in before}
        for assignment in placement:
            if _place(assignment) in there:
                continue
            node = self.nodes.get(assignment.node)
            if node is None or node.cordoned or not node.alive:
                raise self.broken("NodeUnusable", f"a rank was put on node {assignment.node}")
            healthy = {device.id for device in node.devices if device.healthy}
            wrong = [share.device for share in assignment.shares if share.device not in healthy]
            if wrong:
                raise self.broken("DeviceUnusable", f"a rank was put on {wrong[0]} of node {assignment.node}")

    def whole(self, workload: WorkloadView, placement: Placement) -> None:
        """Every rank has its place, of elastic roles at least the least, and no rank has two."""
        for role in workload.roles:
            replicas = [a.replica for a in placement if a.role == role.name]
            if len(set(replicas)) != len(replicas):
                raise self.broken("RankTwice", f"{workload.name}: a rank of {role.name} has two places")
            if not role.least <= len(replicas) <= role.replicas:
                message = f"{workload.name}: {len(replicas)} ranks of {role.name}, not {role.least}"
                raise self.broken("GangBroken", f"{message} to {role.replicas}")
        known = {role.name for role in workload.roles}
        if any(assignment.role not in known for assignment in placement):
            raise self.broken("RoleUnknown", f"{workload.name}: a rank of a role that it does not have")

    # -- the whole pool

    def devices(self, placements: Iterable[Placement]) -> None:
        """No device is given out beyond what it has."""
        millis: dict[tuple[str, str], int] = {}
        memory: dict[tuple[str, str], int] = {}
        for placement in placements:
            for assignment in placement:
                for share in assignment.shares:
                    key = (assignment.node, share.device)
                    millis[key] = millis.get(key, 0) + share.millis
                    memory[key] = memory.get(key, 0) + share.memory_bytes
        for (node, name), used in millis.items():
            device = next((d for d in self.nodes[node].devices if d.id == name), None)
            if device is None or used > device.capacity_millis:
                raise self.broken("DeviceOverused", f"{name} of node {node} has {used} millis given out")
            if device.vendor != CPU and memory[node, name] > device.memory_bytes:
                raise self.broken("MemoryOverused", f"{name} of node {node}: more memory than it has")

    def quotas(self, running: Iterable[RunningView]) -> None:
        """No queue or cohort holds more than its limits let it. What is leaving does not count."""
        used = _used_by_queue(running)
        for queue in self.queues:
            inside = _below(queue, self.queues)
            total: dict[Model, int] = {}
            for name in inside:
                for model, millis in used.get(name, {}).items():
                    total[model] = total.get(model, 0) + millis
            self._limit(queue, sum(total.values()))
            for device_class, most in self._most(queue, inside).items():
                held = sum(m for model, m in total.items() if device_class in classes_of(model))
                if held > most:
                    message = f"{queue.name} holds {held} millis of {device_class}, may have {most}"
                    raise self.broken("QuotaExceeded", message)

    def _most(self, queue: QueueView, inside: frozenset[str]) -> dict[str, int]:
        """Per class, what is the queue's (or cohort's) own and what it may borrow; without entry: no
        limit."""
        nominal: dict[str, int] = {}
        for member in self.queues:
            if member.name in inside:
                for quota in member.quotas:
                    name = quota.device_class.lower()
                    nominal[name] = nominal.get(name, 0) + quota.nominal_millis
        if not queue.parent:
            return nominal
        borrowing = {quota.device_class.lower(): quota.borrowing_millis for quota in queue.quotas}
        return {name: nominal[name] + limit for name, limit in borrowing.items() if limit is not None}

    def _limit(self, queue: QueueView, millis: int) -> None:
        if queue.max_devices is not None and millis > queue.max_devices * WHOLE_MILLIS:
            message = f"{queue.name} holds {millis} millis, maxDevices is {queue.max_devices}"
            raise self.broken("LimitExceeded", message)

    # -- promises

    def promises(self, deferred: Iterable[Defer]) -> None:
        """Keep the earliest start that each waiting workload was promised. Only where nothing came in
        between that may delay it (``forget``) and estimates are upper bounds."""
        for decision in deferred:
            if decision.reserved_ms is not None:
                known = self._promised.get(decision.uid, decision.reserved_ms)
                self._promised[decision.uid] = min(known, decision.reserved_ms)

    def kept(self, uid: str, now_ms: int) -> None:
        """``uid`` starts now."""
        promised = self._promised.pop(uid, None)
        if promised is not None and now_ms > promised + self.tolerance_ms:
            late = (now_ms - promised) / 1000
            raise self.broken("ReservationDelayed", f"{uid} starts {late:.0f} s later than promised")

    def overdue(self, now_ms: int) -> None:
        """Nobody is kept waiting beyond the promise."""
        for uid, promised in self._promised.items():
            if now_ms > promised + self.tolerance_ms:
                late = (now_ms - promised) / 1000
                raise self.broken("ReservationDelayed", f"{uid} waits {late:.0f} s longer than promised")

    def forget(self) -> None:
        """Something happened that may rightly delay those who wait."""
        self._promised.clear()


def _place(assignment: Assignment) -> tuple[str, int, str, tuple[Share, ...]]:
    """Where it is, whatever its rank is counted as."""
    return assignment.role, assignment.replica, assignment.node, assignment.shares


def _used_by_queue(running: Iterable[RunningView]) -> dict[str, dict[Model, int]]:
    used: dict[str, dict[Model, int]] = {}
    for view in running:
        if view.leaving:
            continue
        mine = used.setdefault(view.workload.queue, {})
        for assignment in view.placement:
            for share in assignment.shares:
                model = (share.vendor, share.model)
                mine[model] = mine.get(model, 0) + share.millis
    return used


def _below(queue: QueueView, queues: Sequence[QueueView]) -> frozenset[str]:
    """The queue and all that borrow in it."""
    names = {queue.name}
    grown = True
    while grown:
        more = {other.name for other in queues if other.parent in names} - names
        names |= more
        grown = bool(more)
    return frozenset(names)
