"""Whoever waits for news of nodes is told of what changes there, and woken by nothing else."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.clock import VirtualClock
from common.errors import Conflict, Unavailable
from common.settings import RaySettings, Settings
from scheduler.adapters.devices.accelerators import Found
from scheduler.adapters.ray import agent as agent_module
from scheduler.adapters.ray import watches
from scheduler.adapters.ray.agent import Agent, AgentOptions
from scheduler.adapters.ray.clusters import ManyClusters
from scheduler.adapters.ray.fabric import RayFabric
from scheduler.adapters.ray.versions import Versions
from scheduler.ports import Fabric
from tests.fixtures.fabric import FakeFabric, accelerator
from tests.fixtures.ray_stand_in import PretendAgent, StandInRay, gpu
from tests.unit.scheduler.ray.test_agent import order

NODE = "1" * 56
LONG = 60.0
NO_NEWS = 0.1


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Found]:
    """What each probe of the agent's finds: the last of these."""
    told = [Found((gpu(0),), {})]
    monkeypatch.setattr(agent_module, "probe_devices", lambda *_: told[-1])
    monkeypatch.setattr(agent_module, "PROBE_CACHE_SECONDS", 0.02)
    return told


@pytest.fixture
async def agent(tmp_path: Path, found: list[Found]) -> AsyncIterator[Agent]:
    made = Agent(AgentOptions("n", "10.0.0.1", str(tmp_path), "i", sandbox_mode="off"))
    yield made
    for gang in (await made.observe("i")).gangs:
        await made.stop_gang(gang.uid, gang.attempt, 0)


async def changed(agent: Agent, version: str, seconds: float = LONG) -> str:
    async with asyncio.timeout(20):
        return await agent.changed("i", version, seconds)


async def test_an_agent_answers_as_soon_as_something_is_new(agent: Agent, found: list[Found]) -> None:
    version = (await agent.observe("i")).version
    assert await changed(agent, "of an earlier process", LONG) == version
    assert await changed(agent, version, NO_NEWS) == version, "nothing was new"
    asked = asyncio.create_task(changed(agent, version))
    await asyncio.sleep(NO_NEWS)
    found.append(Found((gpu(0).model_copy(update={"utilisation_percent": 90, "power_watts": 300}),), {}))
    await asyncio.sleep(NO_NEWS)
    assert not asked.done(), "load is no news"
    found.append(Found((gpu(0).model_copy(update={"healthy": False, "fault": "XID 79"}),), {}))
    assert await asked != version
    report = await agent.observe("i")
    assert (report.version, report.devices[0].fault) == (await asked, "XID 79")
    assert len(next(iter((await agent.series()).values()))) >= 1


async def test_each_step_of_a_gang_is_news_but_for_marks_of_device_time(agent: Agent, tmp_path: Path) -> None:
    async def next_version(step: Any) -> None:
        version = (await agent.observe("i")).version
        asked = asyncio.create_task(changed(agent, version))
        await asyncio.sleep(0)
        if step is not None:
            await step
        assert await asked != version

    ends = tmp_path / "ends"
    await next_version(agent.ensure_gang(order("uid-1", 1, f"while [ ! -e {ends} ]; do sleep 0.02; done")))
    version = (await agent.observe("i")).version
    await agent.mark_metered("uid-1", 1, {0: 3})
    assert await changed(agent, version, NO_NEWS) == version
    asked = asyncio.create_task(changed(agent, version))
    ends.touch()
    assert await asked != version
    [gang] = (await agent.observe("i")).gangs
    assert [rank.exit_code for rank in gang.ranks] == [0]
    await next_version(agent.forget_gang("uid-1", 1))
    await agent.ensure_gang(order("uid-2"))
    await next_version(agent.stop_gang("uid-2", 1, 0))


async def test_other_questions_are_answered_while_one_is_open_and_strangers_get_none(agent: Agent) -> None:
    version = (await agent.observe("i")).version
    asked = asyncio.create_task(changed(agent, version))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        assert (await agent.observe("i")).version == version
        assert await agent.node("i") == "n"
    assert not asked.done()
    asked.cancel()
    with pytest.raises(Conflict):
        await agent.changed("j", version, LONG)


async def test_a_version_is_of_one_process_and_one_state() -> None:
    one, other = Versions(), Versions()
    one.note(["a"])
    other.note(["a"])
    assert one.now != other.now
    before = one.now
    one.note(["a"])
    assert one.now == before
    waiting = asyncio.create_task(one.moves(LONG))
    await asyncio.sleep(0)
    one.note(["b"])
    await waiting
    assert one.now != before


class Scene:
    """A node whose agent the fabric has looked at."""

    def __init__(self, home: Path, ray: StandInRay) -> None:
        self.ray = ray
        ray.add_node(NODE, "a")
        settings = Settings(home=home, instance="first", ray=RaySettings(address="10.9.9.9:6379"))
        self.fabric = RayFabric(settings, VirtualClock())

    @property
    def agent(self) -> PretendAgent:
        made = self.ray.agent(NODE).made
        assert isinstance(made, PretendAgent)
        return made

    def tell(self, version: str) -> None:
        self.agent.report = replace(self.agent.report, version=version)

    async def is_news(self, seconds: float) -> bool:
        """Whether the wait ended before its time."""
        clock = asyncio.get_running_loop().time
        began = clock()
        async with asyncio.timeout(20):
            await self.fabric.news(seconds)
        return clock() - began < seconds


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    made = Scene(tmp_path, StandInRay().put_in_place(monkeypatch))
    await made.fabric.nodes()
    yield made
    await made.fabric.close()


async def test_the_fabric_waits_until_an_agent_has_something_new(scene: Scene) -> None:
    assert not await scene.is_news(NO_NEWS)
    waiting = asyncio.create_task(scene.is_news(LONG))
    await asyncio.sleep(0.05)
    scene.tell("2")
    assert await waiting
    assert await scene.is_news(LONG), "it was not looked at yet"
    await scene.fabric.nodes()
    assert not await scene.is_news(NO_NEWS)


async def test_one_question_stays_open_however_often_somebody_waits(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, original = [], PretendAgent.changed

    async def counted(self: PretendAgent, *arguments: Any) -> str:
        asked.append(arguments)
        return await original(self, *arguments)

    monkeypatch.setattr(PretendAgent, "changed", counted)
    for _ in range(5):
        assert not await scene.is_news(0.02)
        await scene.fabric.nodes()
    assert asked == [("first", "", watches.OPEN_SECONDS)]


async def test_a_question_that_ends_without_news_is_asked_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "OPEN_SECONDS", 0.02)
    assert not await scene.is_news(0.2)
    waiting = asyncio.create_task(scene.is_news(LONG))
    await asyncio.sleep(0.1)
    scene.tell("2")
    assert await waiting


async def test_an_agent_that_dies_or_hangs_is_news(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.ray.agent(NODE).dead = True
    assert await scene.is_news(LONG)
    scene.ray.agent(NODE).dead, scene.ray.agent(NODE).hung = False, True
    monkeypatch.setattr(watches, "OPEN_SECONDS", 0.02)
    monkeypatch.setattr(watches, "ANSWER_SECONDS", 0.02)
    assert await scene.is_news(LONG)


class EarlierHandle:
    """Of an agent of an earlier version."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


async def test_nobody_waits_long_for_agents_that_know_no_such_question(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.adapters.ray.fabric.UNTOLD_SECONDS", 0.05)
    [known] = scene.fabric._known.values()
    known.watch = watches.Watch(EarlierHandle())
    assert await scene.is_news(LONG)
    assert await scene.is_news(LONG)


async def test_questions_end_with_the_fabric_that_asked_them(scene: Scene) -> None:
    assert not await scene.is_news(NO_NEWS)
    [known] = scene.fabric._known.values()
    task = known.watch._task
    assert task is not None
    assert not task.done()
    await scene.fabric.dismiss_agents()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
    assert not await scene.is_news(NO_NEWS), "without agents there are no news"


class Silent(FakeFabric):
    async def news(self, seconds: float) -> None:
        raise Unavailable("no route")


async def test_news_of_one_cluster_are_told_whatever_the_others_do() -> None:
    clock = VirtualClock()
    east, west = FakeFabric(clock, a=[accelerator("a", 0)]), Silent(clock, b=[accelerator("b", 0)])
    members: dict[str, Fabric] = {"east": east, "west": west}
    pool = ManyClusters(members, 20.0, clock)
    await pool.nodes()
    began = asyncio.get_running_loop().time()
    await pool.news(NO_NEWS)
    assert asyncio.get_running_loop().time() - began >= NO_NEWS * 0.9
    await pool.nodes()
    waiting = asyncio.create_task(pool.news(LONG))
    await asyncio.sleep(NO_NEWS)
    assert not waiting.done()
    east.set_device("a", 0, healthy=False)
    async with asyncio.timeout(5):
        await waiting
    await pool.close()


def test_what_a_killed_control_process_has_asked_ends_soon() -> None:
    assert watches.OPEN_SECONDS < agent_module.ABANDONED_SECONDS / 2
