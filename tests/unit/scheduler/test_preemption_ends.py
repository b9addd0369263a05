"""Cycle after cycle in worlds where nothing ends and nothing comes: at some point nobody is taken from any
more."""

from dataclasses import dataclass, replace

from hypothesis import given, settings

from scheduler.core.cycle import run_cycle
from scheduler.core.snapshot import take_snapshot
from scheduler.core.types import Admit, Preempt, Resize, RunningView, WorkloadView
from tests.unit.scheduler.worlds import CATALOGUE, World, overused, worlds

STEP_MS = 60_000
CYCLES = 40
QUIET = 12


@dataclass
class Life:
    """A world whose decisions are carried out. Who is told to go has left by the next cycle."""

    world: World
    now_ms: int
    running: dict[str, RunningView]
    pending: dict[str, WorkloadView]

    def cycle(self) -> int:
        """How many were taken from."""
        world = self.world
        for uid, one in list(self.running.items()):
            if one.leaving and one.ends_ms is not None and one.ends_ms <= self.now_ms:
                self.pending[uid] = self.running.pop(uid).workload
        snapshot = take_snapshot(
            world.nodes,
            world.queues,
            list(self.pending.values()),
            list(self.running.values()),
            catalogue=CATALOGUE,
        )
        taken = 0
        for decision in run_cycle(snapshot, world.policy, self.now_ms):
            if isinstance(decision, Admit):
                workload = self.pending.pop(decision.uid)
                self.running[decision.uid] = RunningView(workload, decision.placement, self.now_ms)
            elif isinstance(decision, Preempt):
                taken += 1
                one = self.running[decision.uid]
                assert not one.leaving
                self.running[decision.uid] = replace(one, leaving=True, ends_ms=self.now_ms + 10_000)
            elif isinstance(decision, Resize):
                taken += bool(decision.beneficiary)
                self.running[decision.uid] = replace(
                    self.running[decision.uid], placement=decision.placement, resized_ms=self.now_ms
                )
        assert overused(world.nodes, [one.placement for one in self.running.values()]) == []
        self.now_ms += STEP_MS
        return taken


@settings(max_examples=60, deadline=None)
@given(worlds(nodes=4))
def test_preemption_ends(world: World) -> None:
    endless = [replace(one, workload=replace(one.workload, expected_seconds=None)) for one in world.running]
    policy = replace(world.policy, defragment=False)
    life = Life(
        replace(world, policy=policy),
        world.now_ms,
        {one.workload.uid: one for one in endless},
        {one.uid: one for one in world.pending},
    )
    taken = [life.cycle() for _ in range(CYCLES)]
    assert taken[-QUIET:] == [0] * QUIET, taken
