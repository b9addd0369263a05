"""One of several clusters is asked through a process of its own, which may end at any time."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.clock import VirtualClock
from common.errors import NotFound, Unavailable
from common.settings import RaySettings, Settings
from scheduler.adapters.ray import link as module
from scheduler.adapters.ray.connector import serve
from scheduler.adapters.ray.link import ClusterLink
from scheduler.ports import Billing, GangOrder, RankOrder
from tests.fixtures.fabric import FakeFabric, accelerator


class Process:
    """A connector, in this process."""

    pid = 1

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.task: asyncio.Task[None] | None = None

    def wait(self, timeout: float | None = None) -> int:
        return 0


class Scene:
    """A link to the cluster ``west`` of one node."""

    def __init__(self, home: Path) -> None:
        self.clock = VirtualClock()
        self.fabric = FakeFabric(self.clock, a=[accelerator("a", 0)])
        self.processes: list[Process] = []
        settings = Settings(home=home, ray=RaySettings(address="here", clusters={"west": "there"}))
        self.link = ClusterLink(settings, "west", "there", self.clock)
        self._loop = asyncio.get_running_loop()

    def spawn(self, channel: int) -> Process:
        process = Process(socket.socket(fileno=os.dup(channel)))
        process.channel.setblocking(False)

        def begin() -> None:
            process.task = asyncio.ensure_future(serve(self.fabric, process.channel))

        self._loop.call_soon_threadsafe(begin)
        self.processes.append(process)
        return process

    async def kill(self) -> None:
        """The last process ends."""
        process = self.processes[-1]
        process.channel.shutdown(socket.SHUT_RDWR)
        assert process.task is not None
        await asyncio.wait([process.task])
        while self.link._writer is not None:
            await asyncio.sleep(0)

    async def ask(self) -> list[str]:
        return [node.name for node in await self.link.nodes()]


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    made = Scene(tmp_path)
    monkeypatch.setattr(made.link, "_spawn", made.spawn)
    yield made
    await made.link.close()


def order() -> GangOrder:
    rank = RankOrder(0, "main", 0, ("sleep", "9"), {}, (), ())
    return GangOrder("u", 1, 1, "d", Billing("t", "p", "w"), (rank,))


async def test_all_questions_go_through_one_process_and_answers_to_who_asked(scene: Scene) -> None:
    record, names, *_ = await asyncio.gather(
        scene.link.ensure_gang("a", order()), scene.ask(), scene.link.series("a"), scene.ask()
    )
    assert (record.uid, names) == ("u", ["a"])
    assert len(scene.processes) == 1
    await scene.link.mark_metered("a", "u", 1, {0: 3})
    assert scene.fabric.hosts["a"].gangs["u", 1].ranks[0].metered_spans == 3
    await scene.link.stop_gang("a", "u", 1, 7.0)
    assert (scene.fabric.stopped, scene.fabric.graces) == ([("a", "u", 1)], [7.0])
    assert (await scene.link.read_log("a", "u", 1, 0, 0, 10)).data == b""
    await scene.link.forget_gang("a", "u", 1)
    assert scene.fabric.hosts["a"].gangs == {}
    with pytest.raises(NotFound, match="no node nowhere"):
        await scene.link.ensure_gang("nowhere", order())


async def test_news_go_through_it_and_hold_up_no_other_question(scene: Scene) -> None:
    await scene.ask()
    waiting = asyncio.create_task(scene.link.news(60.0))
    async with asyncio.timeout(5):
        assert await scene.ask() == ["a"]
        assert not waiting.done()
        scene.fabric.set_device("a", 0, healthy=False)
        await waiting


async def test_a_question_that_is_open_when_the_process_ends_is_unavailable(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def nodes() -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(scene.fabric, "nodes", nodes)
    asking = asyncio.create_task(scene.ask())
    await asked.wait()
    await scene.kill()
    with pytest.raises(Unavailable, match="the connector of the Ray cluster west has ended"):
        await asking


async def test_an_answer_that_does_not_come_is_not_waited_for_without_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nodes() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "QUESTION_SECONDS", 0.02)
    monkeypatch.setattr(scene.fabric, "nodes", nodes)
    with pytest.raises(Unavailable, match="west does not answer nodes"):
        await scene.ask()
    assert scene.link._open == {}


async def test_a_process_that_ends_is_started_anew_with_growing_pauses_until_it_answers(scene: Scene) -> None:
    await scene.ask()
    await scene.kill()
    with pytest.raises(Unavailable, match="has ended and starts again soon"):
        await scene.ask()
    for pause in (2.0, 2.0):  # each had answered
        scene.clock.advance(pause)
        assert await scene.ask() == ["a"]
        await scene.kill()
    scene.link._failures = 3
    scene.clock.advance(2.0)
    await scene.ask()
    await scene.kill()
    scene.clock.advance(15.9)
    with pytest.raises(Unavailable, match="starts again soon"):
        await scene.ask()
    scene.clock.advance(0.1)
    assert await scene.ask() == ["a"]
    scene.link._failures = 30
    await scene.kill()
    scene.clock.advance(60.0)
    await scene.ask()
    await scene.kill()
    scene.clock.advance(60.0)
    assert await scene.ask() == ["a"], "a minute is the longest pause"


async def test_a_link_that_is_closed_starts_nothing_more(scene: Scene) -> None:
    await scene.ask()
    await scene.link.close()
    with pytest.raises(Unavailable):
        await scene.ask()
    assert len(scene.processes) == 1


async def test_agents_of_a_cluster_that_is_away_need_not_be_dismissed(scene: Scene) -> None:
    await scene.link.dismiss_agents()
    assert scene.fabric.hosts == {}
    await scene.kill()
    await scene.link.dismiss_agents()


async def test_the_process_is_told_its_cluster_and_where_the_product_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    settings = Settings(home=tmp_path, ray=RaySettings(address="here", clusters={"west": "there"}))
    named = ClusterLink(settings, "west", "there", VirtualClock())
    env = named._environment()
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in env
    assert env["PYTHONPATH"].split(os.pathsep)[0] == str(Path(module.scheduler.__file__).parent.parent)
    assert named._settings.ray.address == "there"
    assert named._settings.ray.clusters == {}
    own = ClusterLink(settings, "", "here", VirtualClock())
    assert "the Ray cluster here" in own._title
