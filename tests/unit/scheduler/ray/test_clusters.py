"""Several clusters as one pool: what one of them does is no matter to the others."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from common.clock import VirtualClock
from common.errors import NotFound, Unavailable
from scheduler.adapters.ray import clusters
from scheduler.adapters.ray.clusters import ManyClusters
from scheduler.adapters.ray.connector import answer
from scheduler.adapters.ray.frames import frame, read_frame
from scheduler.adapters.ray.names import in_cluster
from scheduler.ports import Billing, Fabric, GangOrder, NodeObservation, RankOrder
from tests.fixtures.fabric import FakeFabric, accelerator

LOST_SECONDS = 20.0


class Flaky(FakeFabric):
    away = False

    async def nodes(self) -> Sequence[NodeObservation]:
        if self.away:
            raise Unavailable("no route")
        return await super().nodes()


class Scene:
    """Two clusters of one node each."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.east = Flaky(self.clock, a=[accelerator("a", 0)])
        self.west = Flaky(self.clock, b=[accelerator("b", 0)])
        clusters: dict[str, Fabric] = {"east": self.east, "west": self.west}
        self.pool = ManyClusters(clusters, LOST_SECONDS, self.clock)

    async def states(self) -> dict[str, str]:
        return {node.name: node.state for node in await self.pool.nodes()}


def order(uid: str = "u") -> GangOrder:
    rank = RankOrder(0, "main", 0, ("sleep", "9"), {}, (), ())
    return GangOrder(uid, 1, 1, "d", Billing("t", "p", "w"), (rank,))


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_gang_goes_to_the_cluster_of_its_node(scene: Scene) -> None:
    assert await scene.states() == {"a": "Alive", "b": "Alive"}
    await scene.pool.ensure_gang("b", order())
    assert (scene.east.started, len(scene.west.started)) == ([], 1)
    assert set(await scene.pool.series("a")) == {"a-nvidia-0"}
    with pytest.raises(NotFound):
        await scene.pool.ensure_gang("c", order())


async def test_a_cluster_that_is_away_is_silent_then_lost_and_the_other_goes_on(scene: Scene) -> None:
    await scene.states()
    await scene.pool.ensure_gang("b", order())
    await scene.states()
    scene.west.away = True
    assert await scene.states() == {"a": "Alive", "b": "Silent"}
    assert [len(node.gangs) for node in await scene.pool.nodes()] == [0, 1]
    scene.clock.advance(LOST_SECONDS)
    await scene.states()
    assert await scene.states() == {"a": "Alive", "b": "Lost"}
    assert [len(node.gangs) for node in await scene.pool.nodes()] == [0, 0]
    scene.west.away = False
    await scene.states()
    await asyncio.sleep(0)
    assert await scene.states() == {"a": "Alive", "b": "Alive"}


async def test_nothing_is_said_before_any_cluster_has_answered(scene: Scene) -> None:
    scene.east.away = scene.west.away = True
    with pytest.raises(Unavailable, match=r"east: no route; west: no route"):
        await scene.pool.nodes()


async def test_all_agents_are_dismissed_even_if_one_cluster_is_away(scene: Scene) -> None:
    await scene.states()
    await scene.pool.dismiss_agents()
    assert (scene.east.hosts, scene.west.hosts) == ({}, {})
    await scene.pool.close()


@pytest.mark.parametrize(
    ("name", "public"), [("a", "west.a"), ("west.a", "west.a"), ("a.west", "west.a.west")]
)
def test_a_node_is_named_after_its_cluster_once(name: str, public: str) -> None:
    assert in_cluster(name, "west") == public
    assert in_cluster(name, "") == name


async def test_errors_and_records_come_back_as_they_were(scene: Scene) -> None:
    reader = asyncio.StreamReader()
    for question in (
        (1, "ensure_gang", ("a", order())),
        (2, "ensure_gang", ("nowhere", order())),
        (3, "shutdown", ()),
        (4, "stop_gang", ()),
    ):
        reader.feed_data(frame(await answer(scene.east, question)))
    answers: list[Any] = [await read_frame(reader) for _ in range(4)]
    assert [(number, worked) for number, worked, _ in answers] == [
        (1, True),
        *((n, False) for n in (2, 3, 4)),
    ]
    record, missing, unknown, wrong = (value for _, _, value in answers)
    assert record.uid == "u"
    assert (type(missing), str(missing)) == (NotFound, "no node nowhere")
    assert isinstance(unknown, Unavailable)
    assert isinstance(wrong, Unavailable)


async def test_all_that_is_said_about_a_gang_reaches_the_cluster_of_its_node(scene: Scene) -> None:
    await scene.states()
    await scene.pool.ensure_gang("b", order())
    gangs = scene.west.hosts["b"].gangs
    await scene.pool.stop_gang("b", "u", 1, 0.0)
    assert gangs["u", 1].stopping
    assert not gangs["u", 1].alive
    await scene.pool.mark_metered("b", "u", 1, {0: 1})
    await scene.pool.forget_gang("b", "u", 1)
    assert gangs == {}


class Broken(FakeFabric):
    """Cannot end what it should."""

    error: Exception = Unavailable("no route")

    async def dismiss_agents(self) -> None:
        raise self.error


async def test_a_cluster_that_cannot_be_reached_keeps_no_other_from_ending() -> None:
    clock = VirtualClock()
    broken, fine = Broken(clock, a=[accelerator("a", 0)]), FakeFabric(clock, b=[accelerator("b", 0)])
    pool = ManyClusters({"east": broken, "west": fine}, LOST_SECONDS, clock)
    await pool.nodes()
    await pool.dismiss_agents()
    assert fine.hosts == {}
    broken.error = RuntimeError("a fault of ours")
    with pytest.raises(RuntimeError):
        await pool.dismiss_agents()


class Slow(FakeFabric):
    """Does not answer until it may."""

    def __init__(self, *arguments: Any, **devices: Any) -> None:
        super().__init__(*arguments, **devices)
        self.may = asyncio.Event()

    async def nodes(self) -> Sequence[NodeObservation]:
        await self.may.wait()
        return await super().nodes()


async def test_a_cluster_that_takes_its_time_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "PROMPT_SECONDS", 0.01)
    clock = VirtualClock()
    slow, quick = Slow(clock, a=[accelerator("a", 0)]), FakeFabric(clock, b=[accelerator("b", 0)])
    pool = ManyClusters({"east": slow, "west": quick}, LOST_SECONDS, clock)
    async with asyncio.timeout(5):
        assert [node.name for node in await pool.nodes()] == ["b"]
        assert [node.name for node in await pool.nodes()] == ["b"], "one that is silent is not waited for"
    slow.may.set()
    async with asyncio.timeout(5):
        while len(await pool.nodes()) < 2:
            await asyncio.sleep(0)
    await pool.close()
