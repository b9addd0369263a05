"""The product's scheduler with its moves, and with its delay.

A task that fits nowhere waits. The product's planner (``core/reshape/migration.py``) looks for moves that
make room for it; after moves all that wait are looked at again. Moves alone gain little in a cluster that
only fills up: what is lost there is the room beside shares that leave a worthless rest, and these were
placed because they fitted. So a second run also has the scheduler's delay
(``core/backfill/delay.py``): while the pool is nearly full, such shares wait up to ``MAX_DELAY_SECONDS``
for others that waste less. Nothing is turned away: what waits is placed when its delay ends, if it fits
then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.fragmentation.product import POLICY, QUEUE, ProductCluster, workload_of
from bench.traces import TraceNode, TraceTask
from scheduler.core.backfill.delay import should_wait
from scheduler.core.fragmentation.fragmentation import Fragmentation
from scheduler.core.model.types import Placement, QueueView, RoleView, RunningView, WorkloadView
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.placing import Stuck
from scheduler.core.placement.snapshot import Snapshot
from scheduler.core.placement.trial import Trial
from scheduler.core.quota.quota import QuotaTree
from scheduler.core.reshape.migration import plan_moves

ARRIVAL_SECONDS = 60
"""Between two arrivals; the trace's tasks came more slowly."""
MAX_DELAY_SECONDS = 24 * 3600
"""1,440 arrivals, about 18 % of the cluster."""
QUEUES = (QueueView(QUEUE),)


@dataclass
class Tally:
    """What happened. ``held``: tasks that fitted and had to wait all the same; ``holding``: those of them
    that wait still. ``longest_wait_seconds``: of one that was held and then placed."""

    moves: int = 0
    made_room_for: int = 0
    most_moves: int = 0
    held: int = 0
    holding: int = 0
    longest_wait_seconds: int = 0


@dataclass
class Waiting:
    """``held``: it fitted, and waits for a better place."""

    workload: WorkloadView
    gpu_millis: int
    held: bool = False


class MovingCluster(ProductCluster):
    """``max_delay_seconds`` 0: everything that fits is placed at once. ``running`` and ``waiting`` by the
    name of the arrival."""

    def __init__(
        self,
        nodes: Sequence[TraceNode],
        mix: Fragmentation,
        measure: Fragmentation,
        max_delay_seconds: int = 0,
    ) -> None:
        super().__init__(nodes, mix, measure)
        self._mix = mix
        self._max_delay_seconds = max_delay_seconds
        self.running: dict[str, RunningView] = {}
        self.waiting: dict[str, Waiting] = {}
        self._books = QuotaTree(QUEUES, self.pool.capacity_millis())
        self._hopeless: set[tuple[RoleView, ...]] = set()
        self._now_ms = 0
        self.tally = Tally()

    def offer(self, name: str, task: TraceTask) -> bool:
        """The task arrives; whether it is placed at once, after moves if need be. Those whose delay has
        ended are placed before it."""
        self._now_ms += ARRIVAL_SECONDS * 1000
        ended_ms = self._now_ms - self._max_delay_seconds * 1000
        for one in [one for one in self.waiting.values() if one.held]:
            if one.workload.created_ms <= ended_ms:
                self._consider(one)
        return self._consider(Waiting(workload_of(name, task, self._now_ms), task.gpu_millis))

    def _consider(self, one: Waiting) -> bool:
        """Place it, after moves if need be, or let it wait."""
        trial, workload = self._trial(), one.workload
        placement = trial.place(workload)
        if not isinstance(placement, Stuck):
            if not should_wait(trial, self._mix, workload, placement, self._max_delay_seconds):
                self._start(one, placement)
                return True
            trial.rollback((0, 0))
            self._wait(one, held=True)
            return False
        moves = None if workload.roles in self._hopeless else plan_moves(trial, workload)
        if moves is None:
            self._hopeless.add(workload.roles)
            self._wait(one, held=False)
            return False
        placement = trial.running[workload.uid].placement
        trial.rollback((0, 0))
        self._move({move.uid: move.placement for move in moves})
        self.pool.occupy(placement)
        self._start(one, placement)
        self._look_again()
        return True

    def _trial(self) -> Trial:
        running = tuple(self.running.values())
        snapshot = Snapshot(self.pool, QUEUES, (), running, self._mix, self._books)
        return Trial(snapshot, POLICY, self._now_ms)

    def _wait(self, one: Waiting, held: bool) -> None:
        self.tally.held += held and one.workload.uid not in self.waiting
        self.tally.holding += held - one.held
        one.held = held
        self.waiting[one.workload.uid] = one

    def _start(self, one: Waiting, placement: Placement) -> None:
        """It is on the pool."""
        uid = one.workload.uid
        self.running[uid] = RunningView(one.workload, placement, self._now_ms)
        self.waiting.pop(uid, None)
        if one.held:
            self.tally.holding -= 1
            waited = (self._now_ms - one.workload.created_ms) // 1000
            self.tally.longest_wait_seconds = max(self.tally.longest_wait_seconds, waited)
        for model, millis in millis_by_model(placement).items():
            self._books.charge(QUEUE, model, millis)
        self.settle([placement], one.gpu_millis)

    def _move(self, moved: dict[str, Placement]) -> None:
        """All leave, then all are at their new places, which were free before."""
        left = [self.running[uid].placement for uid in moved]
        for placement in left:
            self.pool.vacate(placement)
        for uid, placement in moved.items():
            self.pool.occupy(placement)
            self.running[uid] = replace(self.running[uid], placement=placement)
        self.settle([*left, *moved.values()])
        self.tally.moves += len(moved)
        self.tally.made_room_for += 1
        self.tally.most_moves = max(self.tally.most_moves, len(moved))

    def _look_again(self) -> None:
        """After moves there is room elsewhere."""
        self._hopeless.clear()
        for one in list(self.waiting.values()):
            still = one.workload.uid in self.waiting
            if still and (one.held or one.workload.roles not in self._hopeless):
                self._consider(one)
