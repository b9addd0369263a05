"""What is told of nodes while agents die, clusters go away and others take devices is what was approved."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayError

from common.clock import VirtualClock
from common.errors import ComputilityError, InvalidInput, Unavailable
from common.settings import RaySettings, SchedulerSettings, Settings
from scheduler.adapters.ray import fabric as module
from scheduler.adapters.ray.agent import ABANDONED
from scheduler.adapters.ray.clusters import ManyClusters
from scheduler.adapters.ray.fabric import RayFabric
from scheduler.adapters.ray.holding import Held, Holdings, withheld
from scheduler.adapters.ray.names import NODE_LABEL, unique_name
from scheduler.ports import GangRecord, NodeObservation
from tests.fixtures.drawing import Drawn
from tests.fixtures.ray_stand_in import StandInRay, gpu
from tests.unit.scheduler.drawn.courses import PARTS, Answers, Course, check_courses

ERRORS = (RayError("torn"), RuntimeError("torn"), TimeoutError("torn"))


async def _settled(holdings: Holdings) -> Held | None:
    """What is held once nothing is tried any more."""
    if holdings._task is not None:
        await asyncio.wait([holdings._task])
    return holdings.of("1" * 56)


async def _nodes(ray: StandInRay, drawn: Drawn) -> Answers:
    """One Ray cluster, whose nodes come and go and whose agents die, fail or obey another."""
    rng, clock = drawn.rng, VirtualClock()
    options = SchedulerSettings(node_lost_seconds=20.0)
    settings = Settings(
        home=Path("/home/mine"), instance="mine", ray=RaySettings(address="10.9.9.9:1"), scheduler=options
    )
    fabric = RayFabric(settings, clock, rng.choice(("", "west")))
    list_nodes = ray.nodes
    for number in range(10):
        if len(ray.rows) < 4 and rng.random() < 0.6:
            ray.add_node(
                str(number) * 56, rng.choice(("Host_A", "b")), gpus=rng.choice((0, 2)), labels={"zone": "z"}
            )
        if ray.rows and rng.random() < 0.2:
            ray.remove_node(rng.choice(ray.rows)["NodeID"])
        for row in ray.rows:
            row["Alive"] = rng.random() < 0.9
        for actor in [actor for actor in ray.actors.values() if hasattr(actor.made, "report")]:
            told = {
                "devices": tuple(gpu(n) for n in range(rng.randrange(3))),
                "gangs": tuple(drawn.some(GangRecord, 1)),
            }
            actor.made.report = replace(actor.made.report, **told)
            actor.dead = rng.random() < 0.15
            actor.made.owner = "other" if rng.random() < 0.08 else actor.made.options.instance
            actor.made.conflict_code = rng.choice(("other_installation", ABANDONED))
        failing = rng.choice(ERRORS) if rng.random() < 0.1 else None
        module.ray.nodes = partial(_fail, failing) if failing else list_nodes
        try:
            yield await fabric.nodes()
        except ComputilityError as error:
            yield error
        yield await _settled(fabric._holdings), ray.made, sorted(ray.actors)
        clock.advance(rng.choice((1.0, 11.0, 25.0)))
    module.ray.nodes = list_nodes
    await fabric.dismiss_agents()
    yield sorted(ray.actors), await fabric.nodes()
    await fabric.close()


def _fail(error: Exception) -> Any:
    raise error


async def _held(ray: StandInRay, drawn: Drawn) -> Answers:
    """Accelerators that others take, give back and are faster to get."""
    rng, clock = drawn.rng, VirtualClock()
    ray.add_node("1" * 56, "a", gpus=4)
    holdings, theirs = Holdings(["GPU"], module.NAMESPACE, "/product", clock), list[str]()
    for _ in range(6):
        free = ray.free["1" * 56]["GPU"]
        if free and rng.random() < 0.6:
            theirs.append(free.pop(0))
        if theirs and rng.random() < 0.5:
            free.append(theirs.pop())
        holdings.follow(ray.rows)
        held = await _settled(holdings)
        devices = [gpu(n) for n in range(4)] + [gpu(1, "amd"), gpu(1, "ascend")]
        yield held, held and (held.missing, held.message), withheld(devices, held), sorted(ray.actors)
        clock.advance(rng.choice((4.0, 10.0)))
        if rng.random() < 0.2:
            await holdings.pause()
            holdings = Holdings(["GPU"], module.NAMESPACE, "/product", clock)
    await holdings.dismiss()
    yield sorted(ray.actors), holdings.of("1" * 56)


class _Cluster:
    """Says what it is given, or that it is away."""

    def __init__(self) -> None:
        self.answer: Sequence[NodeObservation] | Exception = []

    async def nodes(self) -> Sequence[NodeObservation]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def dismiss_agents(self) -> None:
        await self.nodes()

    close = dismiss_agents


async def _clusters(ray: StandInRay, drawn: Drawn) -> Answers:
    """Several clusters as one pool."""
    rng, clock = drawn.rng, VirtualClock()
    members: dict[str, Any] = {name: _Cluster() for name in ("east", "west", "")}
    pool = ManyClusters(members, 20.0, clock)
    for _ in range(8):
        for name, cluster in members.items():
            away = InvalidInput("odd") if rng.random() < 0.2 else Unavailable("no route")
            nodes = [drawn.of(NodeObservation, name=f"{name}.{n}") for n in range(rng.randrange(3))]
            cluster.answer = away if rng.random() < 0.4 else nodes
        try:
            yield await pool.nodes()
        except ComputilityError as error:
            yield error
        clock.advance(rng.choice((1.0, 19.0, 20.0)))
    await pool.dismiss_agents()
    yield [(member.name, member.nodes) for member in pool._members]
    await pool.close()


async def _names(ray: StandInRay, drawn: Drawn) -> Answers:
    """What nodes are called."""
    text = "".join(drawn.rng.choice("aB9._- /ü") for _ in range(drawn.rng.choice((0, 3, 12, 195))))
    row = {
        "NodeID": "abcdefghij",
        "NodeManagerHostname": text,
        "Labels": drawn.rng.choice((None, {}, {NODE_LABEL: text})),
    }
    name = unique_name(row, set())
    yield (
        name,
        unique_name(row, {name}),
        module.in_cluster(name, "west"),
        module.in_cluster(f"west.{name}", "west"),
    )
    yield module.in_cluster(name, ""), module.agent_name("abc")


RULES = {
    "nodes of Ray": (_nodes, 12),
    "held": (_held, 12),
    "clusters": (_clusters, 12),
    "names": (_names, 40),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", RULES)
async def test_a_cluster_is_told_of_as_approved(
    name: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    play, courses = RULES[name]

    def fresh(drawn: Drawn) -> Answers:
        return play(StandInRay().put_in_place(monkeypatch), drawn)

    course: Course = (fresh, courses)
    await check_courses(Path(__file__), name, part, course, monkeypatch, {})
