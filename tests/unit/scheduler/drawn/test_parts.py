"""What parts of the loop do in drawn courses is what was approved: whom they ask for what, what they write,
and what they make of errors."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from billing.store.ledger import PostResult
from common.clock import VirtualClock
from common.errors import (
    ComputilityError,
    Conflict,
    InvalidInput,
    NotFound,
    SetupError,
    Unavailable,
)
from common.guard import Guard
from common.resources import Metadata, Node, Project, Queue, Workload
from common.resources.pool import Device
from common.resources.workload import Grant, Rollout
from common.settings import SchedulerSettings, Settings
from common.store.memory import MemoryStore
from scheduler import replicas
from scheduler.adapters.devices.accelerators import Accelerators
from scheduler.adapters.ray.history import DeviceHistory
from scheduler.decisions import wants_successor
from scheduler.gangs import GangKeeper, gangs_of, grace_seconds, is_wanted
from scheduler.metering import DeviceMeter
from scheduler.nodes import NodeWriter
from scheduler.ports import Billing, GangRecord, NodeObservation, RankRecord
from scheduler.queues import QueueBook
from scheduler.translate.kept_world import KeptWorld
from scheduler.translate.observed import Observed
from scheduler.translate.views import World
from tests.fixtures.drawing import NOW_MS, Drawn, told
from tests.unit.scheduler.drawn.courses import PARTS, Answers, Course, check_courses
from tests.unit.scheduler.drawn.desk import assert_apart


class Asked:
    """Stands for whatever is asked something: notes it, and answers as ``answer`` says."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            return self._answer(name, *arguments)

        return call

    def take(self) -> list[tuple[Any, ...]]:
        taken, self.calls = self.calls, []
        return taken


class Pool:
    """Nodes on which gangs come, end and vanish."""

    def __init__(self, drawn: Drawn, clock: VirtualClock) -> None:
        self._drawn, self._rng, self._clock = drawn, drawn.rng, clock
        self.nodes = {name: drawn.of(NodeObservation, name=name, gangs=(), state="Alive") for name in "abc"}

    def happen(self) -> list[NodeObservation]:
        """Some things, and how all is then."""
        rng = self._rng
        for name, node in self.nodes.items():
            gangs = {(gang.uid, gang.attempt): gang for gang in node.gangs}
            if rng.random() < 0.4:
                gang = self._drawn.of(GangRecord, ranks=tuple(self._ranks()))
                gangs.setdefault((gang.uid, gang.attempt), gang)
            if gangs and rng.random() < 0.3:
                key = rng.choice(list(gangs))
                gangs[key] = self._ended(gangs[key])
            if gangs and rng.random() < 0.1:
                del gangs[rng.choice(list(gangs))]
            changes: dict[str, Any] = (
                {} if rng.random() < 0.5 else {"devices": tuple(self._drawn.some(Device, 2))}
            )
            changes["state"] = rng.choice(("Alive", "Alive", "Alive", "Silent", "Lost"))
            self.nodes[name] = replace(node, gangs=tuple(gangs.values()), **changes)
        return [node for node in self.nodes.values() if rng.random() < 0.95]

    def _ranks(self) -> list[RankRecord]:
        started_ms = self._clock.now_ms() - self._rng.choice((0, 59_000, 200_000))
        given = {"started_ms": started_ms, "finished_ms": None, "metered_spans": 0, "state": "Running"}
        return [
            self._drawn.of(RankRecord, rank=number, **given) for number in range(self._rng.choice((1, 2)))
        ]

    def _ended(self, gang: GangRecord) -> GangRecord:
        ended: dict[str, Any] = {"state": "Exited", "finished_ms": self._clock.now_ms() - 500, "exit_code": 0}
        return replace(gang, ranks=tuple(replace(rank, **ended) for rank in gang.ranks))

    def forget(self, node: str, gang: GangRecord) -> None:
        kept = tuple(one for one in self.nodes[node].gangs if one is not gang)
        self.nodes[node] = replace(self.nodes[node], gangs=kept)


def _posted(name: str, *_: object) -> PostResult | None:
    return PostResult(0, 0) if name == "post" else None


async def _meter(drawn: Drawn) -> Answers:
    """Device time is posted, refused, kept aside; marks are left; nodes and gangs vanish."""
    clock, rng = VirtualClock(), drawn.rng
    errors = (InvalidInput("odd"), RuntimeError("boom"), Unavailable("full"), Conflict("other"))
    refusing = rng.choice((0, 0, 3, 5))

    def answer(name: str, *arguments: Any) -> object:
        """Whatever the order in which it is asked."""
        refused = [event.id for event in arguments[0]] if name == "post" else []
        bad = min((each for each in refused if refusing and int(each[-6:], 36) % refusing == 0), default="")
        if bad:
            raise errors[int(bad[-8:], 36) % len(errors)]
        if name != "post" and clock.now_ms() // 500 % 5 == 0:
            raise Unavailable("no answer")
        return _posted(name)

    outside: Any = Asked(answer)
    observed, pool = Observed(), Pool(drawn, clock)
    meter = DeviceMeter(outside, outside, outside, clock, Guard("drawn", clock))
    for _ in range(14):
        clock.advance(rng.choice((0.5, 30, 61, 130)))
        moved = observed.follow(pool.happen())
        names = rng.choice((None, moved.nodes, moved.nodes))
        yield sorted(map(told, await meter.meter(observed, clock.now_ms(), names)))
        yield sorted(
            told((name, sorted(one.id[-6:] for one in rest[0]) if name == "post" else rest))
            for name, *rest in outside.take()
        )
        for node, gang in list(observed.gangs()):
            settled = meter.is_settled(node.name, gang)
            yield node.name, gang.uid, gang.attempt, settled
            if settled and rng.random() < 0.7:
                pool.forget(node.name, gang)
                meter.drop(node.name, gang)


async def _events(drawn: Drawn) -> Answers:
    """What a span is billed as, whole."""
    clock = VirtualClock()
    outside: Any = Asked(_posted)
    meter = DeviceMeter(outside, outside, outside, clock)
    billing = drawn.of(Billing, interval_seconds=7)
    gang = drawn.of(
        GangRecord, ranks=tuple(drawn.some(RankRecord, 2, started_ms=clock.now_ms())), billing=billing
    )
    clock.advance(15)
    observed = Observed([drawn.of(NodeObservation, name="a", state="Alive", gangs=(gang,))])
    yield await meter.meter(observed, clock.now_ms())
    yield outside.take()


async def _backlog(drawn: Drawn) -> Answers:
    """How much is posted at once after a long absence."""
    clock = VirtualClock()
    outside: Any = Asked(_posted)
    meter = DeviceMeter(outside, outside, outside, clock)
    billing, gangs, started_ms = drawn.of(Billing, tenant="t", interval_seconds=1), [], clock.now_ms()
    clock.advance(1000)
    for uid in "uvw":
        ended_ms = started_ms + drawn.rng.choice((40, 100, 150, 199, 200, 201, 450)) * 1000
        given = {"started_ms": started_ms, "finished_ms": ended_ms, "metered_spans": 0, "state": "Exited"}
        rank = drawn.of(RankRecord, rank=0, grants=(drawn.of(Grant),), **given)
        gangs.append(drawn.of(GangRecord, uid=uid, billing=billing, ranks=(rank,)))
    observed = Observed([drawn.of(NodeObservation, name="a", state="Alive", gangs=tuple(gangs))])
    for _ in range(2):
        yield await meter.meter(observed, clock.now_ms())
        yield [(name, len(rest[0]) if name == "post" else rest) for name, *rest in outside.take()]


async def _devices(drawn: Drawn) -> Answers:
    """What is told of devices whose drivers fail, and of those that come, break and go."""
    rng, history, seconds = drawn.rng, DeviceHistory(), 1000.0

    def probe(node: str) -> list[Device]:
        if rng.random() < 0.15:
            raise SetupError("no driver")
        found = drawn.some(Device, 3)
        return list({device.id: device for device in found}.values())

    accelerators = Accelerators({"nvidia": probe})
    for _ in range(10):
        seconds += rng.choice((1.0, 5.0, 6.0, 29.0, 30.0, 60.0, 3600.0))
        found = accelerators.read("n")
        yield found
        yield history.observe(found.devices, found.faults, seconds, int(seconds * 1000))
    yield history.series()


REFUSALS = (Conflict("changed"), NotFound("gone"), InvalidInput("odd"), OverflowError("too large"))


def _keep_apart(store: MemoryStore, rng: random.Random) -> dict[str, BaseModel]:
    """The statuses that were read, by name: none that is written may share anything with them. Some
    writes are refused."""
    read: dict[str, BaseModel] = {}
    set_statuses = store.set_statuses

    async def write(writes: Any) -> Any:
        for one in writes:
            if one.resource is not None and one.resource.name in read:
                assert_apart(one.resource.status, read[one.resource.name])
        refused = {n: rng.choice(REFUSALS) for n in range(len(writes)) if rng.random() < 0.15}
        written = iter(await set_statuses([one for n, one in enumerate(writes) if n not in refused]))
        return [refused[n] if n in refused else next(written) for n in range(len(writes))]

    store.set_statuses = write  # type: ignore[method-assign]
    return read


async def _nodes(drawn: Drawn) -> Answers:
    """What is written of nodes that come, fall silent, are lost and come back."""
    clock, observed = VirtualClock(), Observed()
    store, world, pool = MemoryStore(clock), KeptWorld(), Pool(drawn, clock)
    writer = NodeWriter(store, clock, 30.0, 5.0, Guard("drawn", clock), world)
    before: dict[str, Any] = {}
    read = _keep_apart(store, drawn.rng)
    for _ in range(10):
        moved = observed.follow(pool.happen())
        read |= {name: node.status for name, node in world.nodes.items()}
        await writer.sync(world, observed, moved.nodes)
        for node in await store.list(Node):
            if before.get(node.name) != node.status:
                yield node.name, node.status
            before[node.name] = node.status
        yield sorted(world.nodes)
        clock.advance(drawn.rng.choice((1.0, 4.0, 5.0, 15.0, 16.0, 4000.0)))


async def _queues(drawn: Drawn) -> Answers:
    """What queues and cohorts have spent, and what is written of them."""
    clock, world, rng = VirtualClock(), KeptWorld(), drawn.rng
    store = MemoryStore(clock)
    book = QueueBook(store, clock, Guard("drawn", clock), world)
    read = _keep_apart(store, drawn.rng)
    for name in ("a", "b", "default"):
        queue = (await store.apply(drawn.of(Queue, metadata=Metadata(name=name)))).resource
        world.queues[name] = queue
    for _ in range(8):
        workload = drawn.of(Workload)
        world.workloads[workload.metadata.uid] = workload
        if rng.random() < 0.2:
            world.workloads.pop(f"uid-{rng.randrange(1, 4)}", None)
        yield book.spent(world)
        read |= {name: queue.status for name, queue in world.queues.items()}
        await book.sum_up(world)
        yield [(queue.name, queue.status) for queue in await store.list(Queue)]
        clock.advance(rng.choice((1.0, 5.0, 60.0, 90_000.0)))


async def _gangs(drawn: Drawn) -> Answers:
    """What agents are told of the gangs that should run, and of those that should not."""
    clock, rng = VirtualClock(), drawn.rng
    settings = Settings(scheduler=SchedulerSettings(stop_grace_seconds=2.5, usage_interval_seconds=7))

    def answer(name: str, *arguments: Any) -> Any:
        if rng.random() < 0.15:
            raise rng.choice((Conflict("another is alive"), Unavailable("no answer")))
        return drawn.of(GangRecord) if name == "ensure_gang" else None

    outside: Any = Asked(answer)
    pool, observed = Pool(drawn, clock), Observed()
    keeper, guard = GangKeeper(outside, settings), Guard("drawn", clock)
    meter = DeviceMeter(outside, outside, outside, clock)
    projects = {name: drawn.of(Project) for name in ("p", "q", "")}
    for _ in range(5):
        workloads = {one.metadata.uid: one for one in drawn.some(Workload, 3)}
        world = World(
            nodes={one.name: one for one in drawn.some(Node, 2)}, workloads=workloads, projects=projects
        )
        observed.follow(pool.happen())
        for workload in workloads.values():
            yield wants_successor(workload, world, NOW_MS), grace_seconds(workload, settings)
            for gang in gangs_of(workload):
                yield gang
                try:
                    yield await keeper.start_missing(workload, gang, world, observed)
                except (ComputilityError, StopIteration, RuntimeError) as error:
                    yield type(error).__name__
                yield outside.take()
        await keeper.stop_unwanted(sorted(workloads), world, observed, meter, guard)
        yield outside.take()
        yield [is_wanted(gang, node.name, world) for node, gang in observed.gangs()]
        clock.advance(rng.choice((1.0, 20.0)))
    yield grace_seconds(None, settings)


async def _replicas(drawn: Drawn) -> Answers:
    """Which replicas a group has, and what they are together."""
    group, children = drawn.of(Workload), drawn.some(Workload, 3)
    for slot in replicas.slots_of(group)[:3]:
        spec = replicas.child_spec(group, slot, Rollout())
        assert_apart(spec, group.spec)
        yield slot.name, slot.replica, spec, replicas.child_spec(group, slot, group.spec.rollout).rollout
    yield [replicas.is_ready(child) for child in children]
    yield [replicas.group_phase(children[:size], wanted) for size in range(4) for wanted in range(4)]
    yield replicas.replica_name("g" * drawn.rng.choice((10, 190, 195, 200, 220)), "main", 7)


COURSES: dict[str, Course] = {
    "meter": (_meter, 8),
    "backlog": (_backlog, 7),
    "usage events": (_events, 30),
    "devices": (_devices, 30),
    "nodes": (_nodes, 15),
    "queues": (_queues, 9),
    "gangs": (_gangs, 9),
    "replicas": (_replicas, 25),
}
POOLS: dict[str, Any] = {
    "interval_seconds": (60,),
    "bus_id": ("", "0000:01:00.0", "0000:02:00.0"),
    "tenant": ("t", "t", "u", ""),
    "model": ("a", "b", "unknown"),
    "phase": ("Starting", "Running", "Ready", "Running", "Pending", "Succeeded", "Failed"),
    "taken": ("", "held by another job"),
    "withheld": (frozenset(), frozenset({"d0"})),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", COURSES)
async def test_a_course_goes_as_approved(name: str, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    await check_courses(Path(__file__), name, part, COURSES[name], monkeypatch, POOLS)
