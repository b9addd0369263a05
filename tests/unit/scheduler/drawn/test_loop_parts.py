"""What the loop's smaller parts do in drawn courses is what was approved: decisions become statuses and
events, what fails is set aside, and who is looked at."""

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.clock import VirtualClock
from common.errors import InvalidInput
from common.guard import Guard
from common.resources import Metadata, Workload
from common.resources.workload import RankPlacement, Readiness, Rollout, WorkloadRole, WorkloadSpec
from common.store.memory import MemoryStore
from scheduler.aside import SchedulerGuard
from scheduler.attention import Attention, is_at_rest
from scheduler.core.lifecycle.lifecycle import Note
from scheduler.core.model.types import (
    Admit,
    Assignment,
    Decision,
    Defer,
    Migrate,
    Placement,
    Policy,
    Preempt,
    Resize,
    Share,
    WorkloadView,
)
from scheduler.cycles import CycleInput, Cycles
from scheduler.decisions import Decider
from scheduler.ports import GangRecord, NodeObservation
from scheduler.replicas import ReplicaKeeper
from scheduler.stops import StopBook
from scheduler.translate.kept_world import WorldKeeper
from scheduler.translate.observed import Observed
from scheduler.translate.placements import held_by
from scheduler.translate.views import SUCCESSOR, World, roles_digest, running_views
from scheduler.waiting import Waiting
from tests.fixtures.drawing import Drawn, plain
from tests.unit.scheduler.drawn.courses import PARTS, Answers, Course, check_courses
from tests.unit.scheduler.drawn.desk import ERRORS, POOLS, CarefulJournal, Desk


async def _decisions(drawn: Drawn) -> Answers:
    """Decisions of all kinds about workloads of all kinds, told twice."""
    desk = await Desk(drawn).set_up()
    decider = Decider(desk.journal, desk.settings, desk.guard)
    uids = [f"uid-{n}" for n in range(6)] + [f"uid-{n}{SUCCESSOR}" for n in range(3)]
    places = [
        tuple(
            drawn.of(Assignment, node=node, shares=(drawn.of(Share, device=device, millis=millis),))
            for node in nodes
        )
        for nodes in ("a", "b", "ab", "c")
        for device, millis in (("d0", 500), ("d0", 1000), ("d1", 2500))
    ]
    small = Drawn(drawn.rng, **POOLS, uid=uids, placement=places)

    def held_on(names: Iterable[str]) -> Iterable[Placement]:
        return [held_by(one) for one in desk.workloads if {rank.node for rank in held_by(one)} & set(names)]

    for _ in range(3):
        kinds: list[Any] = [
            drawn.rng.choice((Admit, Admit, Preempt, Resize, Migrate, Defer)) for _ in range(9)
        ]
        decisions: list[Decision] = [small.of(kind) for kind in kinds]
        decisions = [one for one in decisions if not isinstance(one, Defer) or one.reasons]
        for _ in range(2):
            desk.clock.advance(1.0)
            decider.carry_out(decisions, desk.world, held_on, desk.clock.now_ms())
            yield decider.touched
            async for line in desk.flushed():
                yield line


async def _asides(drawn: Drawn) -> Answers:
    """Steps that fail and are tried again, what is said of that, and when all is well again."""
    desk = await Desk(drawn).set_up()
    rng, guard, world = drawn.rng, desk.guard, desk.world

    def work() -> None:
        if rng.random() < 0.5:
            raise rng.choice(ERRORS)

    async def long_work() -> None:
        work()

    for _ in range(8):
        for workload in desk.workloads:
            guard.step("advance", workload, world, work)
            await guard.long_step("start", workload, world, long_work)
        culprits = {f"uid-{rng.randrange(7)}": rng.choice(ERRORS) for _ in range(rng.randrange(3))}
        resting = guard.resting(world)
        guard.after_cycle(world, resting, culprits)
        faults: dict[tuple[str, str], Exception] = {
            (kind, name): rng.choice(ERRORS)
            for kind in ("Node", "Queue")
            for name in "ab"
            if rng.random() < 0.3
        }
        guard.note_views("Node", faults)
        guard.note_views("Queue", faults)
        yield resting, guard.aside(), guard.may_break(faults), guard.may_break({})
        yield [guard.may_place(workload) for workload in desk.workloads]
        if rng.random() < 0.2:
            world.workloads.pop(f"uid-{rng.randrange(5)}", None)
        guard.settle(world)
        async for line in desk.flushed():
            yield line
        desk.clock.advance(rng.choice((0.5, 2.0, 30.0, 400.0)))


async def _journal(drawn: Drawn) -> Answers:
    """Statuses and events, written to a store in which others write too, and which refuses some."""
    desk = await Desk(drawn).set_up()
    rng, journal, world = drawn.rng, desk.journal, desk.world
    set_statuses = desk.store.set_statuses

    async def refuse(writes: Any) -> Any:
        names = {write.resource.name for write in writes if write.resource is not None}
        if len(names) > 1 and rng.random() < 0.3:
            raise OverflowError("too large")
        if names & {"w1"} and rng.random() < 0.5:
            raise InvalidInput("odd")
        return await set_statuses(writes)

    desk.store.set_statuses = refuse  # type: ignore[method-assign]
    for _ in range(6):
        for workload in desk.workloads:
            if rng.random() < 0.6:
                other = drawn.of(Workload).status
                journal.write(workload, rng.choice((workload.status, other)), world)
            if rng.random() < 0.6:
                note = Note(rng.choice(("Succeeded", "Waiting")), rng.choice("ab"))
                journal.note(world.workloads[workload.metadata.uid], note, rng.choice((None, {"log": "x"})))
            if rng.random() < 0.2:
                journal.note_once(workload, Note("Once", "m", "error"), "same")
        if rng.random() < 0.3:
            await desk.write_as_another()
        if rng.random() < 0.1:
            journal.drop()
        async for line in desk.flushed():
            yield line
        yield [(uid, one.status) for uid, one in world.workloads.items()]
        desk.clock.advance(rng.choice((0.0, 0.5, 400.0)))


async def _attention(drawn: Drawn) -> Answers:
    """Who is looked at, waits, and is at rest."""
    desk = await Desk(drawn).set_up()
    rng, world, observed = drawn.rng, desk.world, Observed()
    attention, waiting = (
        Attention(world, desk.clock),
        Waiting(world, desk.settings, desk.journal, desk.guard, StopBook(None, world, desk.guard.items)),
    )
    for _ in range(8):
        gangs = {(gang.uid, gang.attempt): gang for gang in drawn.some(GangRecord, 3)}
        gang = tuple(replace(one, uid=f"uid-{rng.randrange(6)}") for one in list(gangs.values())[:1])
        moved = observed.follow(
            [drawn.of(NodeObservation, name=name, gangs=gang) for name in "ab"[: rng.randrange(3)]]
        )
        uids = attention.look(moved, [f"uid-{rng.randrange(9)}"])
        yield uids
        yield waiting.views(sorted(uids), observed, desk.clock.now_ms())
        async for line in desk.flushed():
            yield line
        await attention.settle(observed)
        yield attention.is_busy, [is_at_rest(f"uid-{n}", world, observed) for n in range(7)]
        desk.clock.advance(rng.choice((1.0, 700.0, 3000.0)))


class _Keeper:
    """Decides unless a poisoned workload is among what it is asked about."""

    def __init__(self, rng: random.Random) -> None:
        self.bad = {f"uid-{n}" for n in range(12) if rng.random() < rng.choice((0.05, 0.4))}
        self.breaks = rng.random() < 0.1
        self.asked: list[Any] = []

    def take(self, world: World, pending: Any, lingering: Any, spent: Any, now_ms: int, running: Any) -> Any:
        uids = [view.uid for view in pending] + [view.workload.uid for view in running]
        self.asked.append((uids, len(lingering)))
        return uids

    def decide(self, uids: list[str], policy: Policy, now_ms: int) -> list[Decision]:
        bad = [uid for uid in uids if uid.partition("/")[0] in self.bad]
        if bad or self.breaks:
            raise ValueError(f"cannot be placed: {bad[:1]}")
        return [Defer(uid, (), "m") for uid in uids]

    def forget(self) -> None:
        self.asked.append("forget")


async def _cycles(drawn: Drawn) -> Answers:
    """Cycles that some workloads break."""
    keeper: Any = _Keeper(drawn.rng)
    cycles = Cycles(keeper)
    for _ in range(3):
        pending = [drawn.of(WorkloadView, uid=f"uid-{n}") for n in range(drawn.rng.randrange(9))]
        small = Drawn(drawn.rng, uid=[f"uid-{n}" for n in range(9, 12)], phase=("Running", "Resizing"))
        running = tuple(view for one in small.some(Workload, 3) for view in running_views(one, World()))
        try:
            found = cycles.run(CycleInput(World(), pending, running, (), {}, Policy(), 0))
            yield found.culprits, [decision.uid for decision in found.decisions]
        except ValueError as error:
            yield error
        yield keeper.asked
        keeper.asked = []


async def _groups(drawn: Drawn) -> Answers:
    """Replicas of groups are made, changed, replaced and deleted, as far as others leave their names."""
    rng, clock = drawn.rng, VirtualClock()
    store = MemoryStore(clock)
    keeper, items = WorldKeeper(store), Guard("drawn", clock)
    journal, world = CarefulJournal(store, clock, items), keeper.world
    replicas = ReplicaKeeper(store, journal, SchedulerGuard(journal, clock, items), world)
    before: dict[str, Any] = {}
    for step in range(9):
        if step < 2 or rng.random() < 0.3:
            await store.apply(_group(rng, "g"))
        elif rng.random() < 0.15:
            for gone in [one for one in await store.list(Workload) if one.name != "g"][:1]:
                await store.delete(Workload, gone.name, gone.project or "")
        for one in await store.list(Workload):
            if one.metadata.owner is not None and rng.random() < 0.6:
                one.status.phase = rng.choice(
                    ("Pending", "Starting", "Running", "Ready", "Succeeded", "Failed")
                )
                one.status.placed_digest = rng.choice((roles_digest(one.spec.roles), "other"))
                one.status.ranks = drawn.some(RankPlacement, 2)
                await store.set_status(one)
        await keeper.follow()
        await replicas.sync(world)
        replicas.sum_up(world)
        yield [(one.name, fault) for one, fault in await journal.flush(world)]
        listed = await store.list(Workload)
        found = {one.name: plain((one.metadata.labels, one.spec, one.status)) for one in listed}
        yield [(one.name, one.metadata.owner and one.metadata.owner.name) for one in listed]
        yield [(name, one) for name, one in found.items() if before.get(name) != one], sorted(found)
        before = found
        clock.advance(rng.choice((1.0, 40.0)))
    yield [(event.name, event.reason, event.message) for event in await store.events(limit=1000)]


def _group(rng: random.Random, name: str) -> Workload:
    readiness = Readiness(port="http") if rng.random() < 0.7 else None
    roles = [
        WorkloadRole(
            name=role,
            replicas=rng.randrange(1, 4),
            command=["x"],
            env={"N": rng.choice("12")},
            ports=["http"],
            readiness=readiness,
        )
        for role in ("main", "side")[: rng.choice((1, 1, 2))]
    ]
    surge = 1 if readiness and rng.random() < 0.5 else 0
    is_other = rng.random() < 0.15
    rollout = Rollout(independent=not is_other, max_surge=surge, max_unavailable=rng.choice((1, 2)))
    spec = WorkloadSpec(roles=roles, priority=rng.choice((0, 5)), suspend=rng.random() < 0.2, rollout=rollout)
    taken = f"{name}-main-0" if is_other else name
    return Workload(metadata=Metadata(name=taken, project="p", labels={"team": "x"}), spec=spec)


COURSES: dict[str, Course] = {
    "groups": (_groups, 10),
    "decisions": (_decisions, 10),
    "set aside": (_asides, 4),
    "journal": (_journal, 5),
    "attention": (_attention, 8),
    "cycles": (_cycles, 9),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", COURSES)
async def test_a_course_goes_as_approved(name: str, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    await check_courses(Path(__file__), name, part, COURSES[name], monkeypatch, POOLS)
