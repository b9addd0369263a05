"""A world that goes on: cycle after cycle its decisions are carried out, and between them things happen."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from scheduler.core.cycle import run_cycle
from scheduler.core.fragmentation.fragmentation import Fragmentation
from scheduler.core.fragmentation.workload_mix import USUAL
from scheduler.core.model.types import (
    Admit,
    Decision,
    Defer,
    Migrate,
    NodeView,
    Placement,
    Preempt,
    QueueView,
    Resize,
    RunningView,
    WorkloadView,
)
from scheduler.core.placement.snapshot import Snapshot, take_snapshot
from scheduler.sim.useless import Useless
from tests.unit.scheduler.worlds import World, make_workload, overused

STEP_MS = 60_000
GRACE_MS = 10_000


@dataclass
class Life:
    """What runs and waits at the time ``now_ms``. Who is told to go has left ``grace_ms`` later.

    ``useless`` counts who was stopped for nothing. ``decided``: what the last cycle decided.
    ``workload_mix``: what usually comes there.
    """

    world: World
    now_ms: int
    running: dict[str, RunningView]
    pending: dict[str, WorkloadView]
    grace_ms: int = GRACE_MS
    useless: Useless = field(default_factory=Useless)
    decided: list[Decision] = field(default_factory=list)
    workload_mix: Fragmentation = USUAL

    @classmethod
    def of(cls, world: World, *, grace_ms: int = GRACE_MS) -> Life:
        running = {one.workload.uid: one for one in world.running}
        return cls(world, world.now_ms, running, {one.uid: one for one in world.pending}, grace_ms)

    def cycle(self) -> int:
        """Run one and carry it out. How many were taken from."""
        world = self.world
        self._let_go()
        self.decided = run_cycle(self.snapshot(), world.policy, self.now_ms)
        self.useless.follow(self.decided)
        taken = sum(map(self._carry_out, self.decided))
        assert overused(world.nodes, [one.placement for one in self.running.values()]) == []
        self.now_ms += STEP_MS
        return taken

    def snapshot(self) -> Snapshot:
        """What a cycle looks at now."""
        world, pending, running = self.world, list(self.pending.values()), list(self.running.values())
        taken = take_snapshot(world.nodes, world.queues, pending, running, catalogue=world.catalogue)
        return replace(taken, workload_mix=self.workload_mix)

    def _let_go(self) -> None:
        for uid, one in list(self.running.items()):
            if one.leaving and one.ends_ms is not None and one.ends_ms <= self.now_ms:
                self.pending[uid] = self.running.pop(uid).workload

    def _carry_out(self, decision: Decision) -> int:
        """1 where somebody is taken from."""
        uid, now_ms = decision.uid, self.now_ms
        if isinstance(decision, Admit):
            workload = replace(self.pending.pop(uid), nominated=())
            self.running[uid] = RunningView(workload, decision.placement, now_ms)
        elif isinstance(decision, Preempt):
            assert not self.running[uid].leaving
            ends_ms = now_ms + self.grace_ms
            self.running[uid] = replace(self.running[uid], leaving=True, ends_ms=ends_ms)
            return 1
        elif isinstance(decision, Resize):
            resized = replace(self.running[uid], placement=decision.placement, resized_ms=now_ms)
            self.running[uid] = resized
            return bool(decision.beneficiary)
        elif isinstance(decision, Migrate):
            self.running[uid] = replace(self.running[uid], placement=decision.placement)
        elif isinstance(decision, Defer):
            self._wait(decision)
        return 0

    def _wait(self, answer: Defer) -> None:
        workload = self.pending[answer.uid]
        if workload.nominated != answer.nominated:
            self.pending[answer.uid] = replace(workload, nominated=answer.nominated)

    # -- what happens

    def arrive(self, workload: WorkloadView) -> None:
        self.pending[workload.uid] = replace(workload, created_ms=self.now_ms)

    def withdraw(self, uid: str) -> None:
        """It gives up waiting, or ends."""
        self.useless.withdraw(uid)
        self.pending.pop(uid, None)
        self.running.pop(uid, None)

    def lose(self, node: NodeView) -> None:
        """A node does not answer any more: what was on it waits again, and what was cleared there is lost."""
        self._set_node(node, replace(node, alive=False))
        for uid, one in list(self.running.items()):
            if _stands_on(one.placement, node):
                self.pending[uid] = self.running.pop(uid).workload

    def happen(self, rng: random.Random, number: int) -> None:
        """Something, or nothing: an arrival, an end, a withdrawal, a lost node."""
        what = rng.random()
        if what < 0.25:
            self.arrive(replace(make_workload(rng, f"a{number}"), priority=rng.choice((0, 0, 1, 5, 9))))
        elif what < 0.45 and self.running:
            self.withdraw(rng.choice(sorted(self.running)))
        elif what < 0.5 and self.pending:
            self.withdraw(rng.choice(sorted(self.pending)))
        elif what < 0.53:
            self.lose(rng.choice(self.world.nodes))

    # -- what people change

    def refurnish(self, rng: random.Random) -> None:
        """A node gets another taint and other labels, or none."""
        node = rng.choice(self.world.nodes)
        taints, labels = rng.choice(((), (("spot", "yes"),))), rng.choice((node.labels, ()))
        self._set_node(node, replace(node, taints=taints, labels=labels))

    def disturb(self, rng: random.Random) -> None:
        """Somebody changes a quota, a queue, a node or a workload that waits, or withdraws it."""
        changes = (self._change_quota, self._drop_queue, self._cordon, self._break, self._change_workload)
        rng.choice((*changes, self._withdraw_nominee))(rng)

    def _change_quota(self, rng: random.Random) -> None:
        queue = rng.choice(self.world.queues)
        factor = rng.choice((0, 0.5, 2))
        quotas = tuple(
            replace(quota, nominal_millis=int(quota.nominal_millis * factor) // 1000 * 1000)
            for quota in queue.quotas
        )
        self._set_queues(
            tuple(replace(one, quotas=quotas) if one is queue else one for one in self.world.queues)
        )

    def _drop_queue(self, rng: random.Random) -> None:
        gone = rng.choice([queue for queue in self.world.queues if not queue.is_cohort] or [None])
        self._set_queues(tuple(queue for queue in self.world.queues if queue is not gone))

    def _set_queues(self, queues: tuple[QueueView, ...]) -> None:
        """What is nominal for one is lent to all: whoever waits for its places may lose them."""
        self.world = replace(self.world, queues=queues)
        self.useless.shake(lambda *_: True)

    def _cordon(self, rng: random.Random) -> None:
        node = rng.choice(self.world.nodes)
        self._set_node(node, replace(node, cordoned=not node.cordoned))

    def _break(self, rng: random.Random) -> None:
        """A device, or heal it: what was on it waits again."""
        node = rng.choice(self.world.nodes)
        broken = rng.choice(node.devices)
        devices = tuple(replace(one, healthy=one is not broken) for one in node.devices)
        self._set_node(node, replace(node, devices=devices))
        for uid, one in list(self.running.items()):
            if any(share.device == broken.id for rank in one.placement for share in rank.shares):
                self.pending[uid] = self.running.pop(uid).workload

    def _set_node(self, before: NodeView, after: NodeView) -> None:
        nodes = tuple(after if one is before else one for one in self.world.nodes)
        self.world = replace(self.world, nodes=nodes)
        self.useless.shake(lambda _, places: _stands_on(places, before))

    def _change_workload(self, rng: random.Random) -> None:
        """Who waits wants more or less, or is more or less important."""
        uid = rng.choice(self._nominees() or sorted(self.pending) or [""])
        if not uid:
            return
        workload, count = self.pending[uid], rng.choice((1, 2, 4))
        roles = tuple(replace(role, request=replace(role.request, count=count)) for role in workload.roles)
        changed = replace(workload, priority=rng.choice((0, 1, 5, 9)), nominated=())
        self.pending[uid] = replace(changed, roles=roles) if rng.random() < 0.5 else changed
        self.useless.shake(lambda claimant, _: claimant == uid)

    def _withdraw_nominee(self, rng: random.Random) -> None:
        nominees = self._nominees()
        if nominees:
            self.withdraw(rng.choice(nominees))

    def _nominees(self) -> list[str]:
        return sorted(uid for uid, workload in self.pending.items() if workload.nominated)


def _stands_on(placement: Placement, node: NodeView) -> bool:
    return any(rank.node == node.name for rank in placement)
