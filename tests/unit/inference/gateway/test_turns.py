"""Requests that wait for a turn at busy engines: who goes when, and what those are told that do not."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from common.clock import VirtualClock
from common.errors import NotAwake, RateLimited, Unauthenticated
from common.http_server.request import ClientGone
from common.settings import GatewaySettings, Settings
from common.wire import Route, RouteReplica
from inference.core import fair_turns
from inference.core.routing.report import EngineReport
from inference.gateway import turns as module
from inference.gateway.books.bill import Job
from inference.gateway.control_link.demand import DemandTeller
from inference.gateway.engines.reports import Reports
from inference.gateway.turns import Turn, Turns


@dataclass
class Engines:
    """Stands in for what asks engines how much they have to do."""

    requests: int = 0
    waiting: int = 0
    tells: bool = True
    asked: list[str] = field(default_factory=list)

    async def load_of(self, url: str) -> EngineReport | None:
        self.asked.append(url)
        return EngineReport(self.requests, 0.0, waiting=self.waiting) if self.tells else None


class Client:
    """Stands in for an exchange whose client may leave."""

    def __init__(self) -> None:
        self.leave: Callable[[], None] | None = None

    def when_gone(self, told: Callable[[], None]) -> Callable[[], None]:
        self.leave = told
        return lambda: None


@dataclass
class Scene:
    turns: Turns
    engines: Engines
    demand: DemandTeller
    clock: VirtualClock
    route: Route

    def job(self, tenant: str = "acme", sequences: int = 1) -> Job:
        request = SimpleNamespace(token_limits=(), prompt_tokens_about=10, sequences=sequences)
        return cast(
            Job,
            SimpleNamespace(
                route=self.route,
                request=request,
                tenant=tenant,
                ticket=SimpleNamespace(end=None),
                line=None,
                exchange=Client(),
            ),
        )

    async def waits(self, job: Job) -> "asyncio.Task[Turn | None]":
        task = asyncio.create_task(self.turns.begin(job))
        await asyncio.sleep(0)
        assert not task.done()
        return task


def replicas(count: int, role: Any = "") -> tuple[RouteReplica, ...]:
    return tuple(
        RouteReplica(
            id=f"r{n}", url=f"http://{role}{n}", role=role, endpoint="lab/chat", model_identity="lab/m"
        )
        for n in range(count)
    )


def route(engines: tuple[RouteReplica, ...]) -> Route:
    return Route(model="m", backend_model="m", base_model="m", project="lab", tenant="acme", replicas=engines)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One engine with one turn; nobody looks at it."""
    monkeypatch.setattr(fair_turns, "FIRST_LIMIT", 1)
    monkeypatch.setattr(module, "LOOK_SECONDS", 1000.0)
    settings = GatewaySettings(queued_requests_per_tenant=2)
    clock, engines = VirtualClock(), Engines()
    demand = DemandTeller(Settings(), cast(aiohttp.ClientSession, None))
    turns = Turns(settings, cast(Reports, engines), demand, clock)
    scene = Scene(turns, engines, demand, clock, route(replicas(1)))
    yield scene
    await scene.turns.close()


async def test_whose_tenant_has_had_least_goes_next(scene: Scene) -> None:
    first = await scene.turns.begin(scene.job("greedy"))
    more, other = await scene.waits(scene.job("greedy")), await scene.waits(scene.job("other"))
    assert first is not None
    scene.turns.finish(first, 266)
    second = await other
    assert not more.done()
    assert second is not None
    scene.turns.finish(second, 266)
    assert await more is not None


async def test_who_leaves_before_each_answer_does_not_always_go_next(scene: Scene) -> None:
    first = await scene.turns.begin(scene.job("stays"))
    assert first is not None
    waiting = {name: await scene.waits(scene.job(name)) for name in ("leaves", "stays")}
    scene.turns.finish(first, 15)
    order: list[str] = []
    for _ in range(4):
        await asyncio.sleep(0)
        [name] = [name for name, task in waiting.items() if task.done()]
        turn = waiting[name].result()
        assert turn is not None
        order.append(name)
        waiting[name] = await scene.waits(scene.job(name))
        scene.turns.finish(turn, 15 if name == "stays" else 0)
    assert order == ["leaves", "leaves", "stays", "leaves"]


async def test_of_one_tenant_only_so_many_wait_and_the_rest_are_told_until_when(scene: Scene) -> None:
    await scene.turns.begin(scene.job())
    waiting = [await scene.waits(scene.job()) for _ in range(2)]
    with pytest.raises(
        RateLimited, match=r"engines of m are busy, 2 requests of the tenant acme wait"
    ) as told:
        await scene.turns.begin(scene.job())
    assert told.value.code == "engines_busy"
    assert told.value.retry_after_seconds == 3
    limit = told.value.limit
    assert limit is not None
    assert (limit.scope, limit.name, limit.limit, limit.value) == ("tenant", "acme", "queuedRequests", 2)
    assert limit.until == "2023-11-14T22:13:23.000Z"
    await scene.waits(scene.job("other"))
    for task in waiting:
        task.cancel()


async def test_who_leaves_or_loses_its_key_gives_its_place_up(scene: Scene) -> None:
    first = await scene.turns.begin(scene.job())
    gone, revoked, stays = scene.job(), scene.job(), scene.job("other")
    tasks = [await scene.waits(job) for job in (gone, revoked, stays)]
    cast(Any, gone.exchange).leave()
    assert revoked.ticket.end is not None
    revoked.ticket.end(Unauthenticated("the key was revoked"))
    with pytest.raises(ClientGone):
        await tasks[0]
    with pytest.raises(Unauthenticated):
        await tasks[1]
    assert first is not None
    scene.turns.finish(first, 266)
    assert await tasks[2] is not None


async def test_a_turn_that_comes_for_who_has_just_left_goes_to_the_next(scene: Scene) -> None:
    first = await scene.turns.begin(scene.job())
    gone, given_up, stays = scene.job(), scene.job(), scene.job("other")
    tasks = [await scene.waits(job) for job in (gone, given_up, stays)]
    cast(Any, gone.exchange).leave()
    tasks[1].cancel()
    assert first is not None
    scene.turns.finish(first, 266)
    last = await tasks[2]
    assert last is not None
    await asyncio.gather(*tasks[:2], return_exceptions=True)
    scene.turns.finish(last, 266)
    room = last.room.turns
    assert (room.open, room.waiting, room.is_idle) == (0, 0, True)


async def test_nobody_waits_longer_than_is_set(scene: Scene) -> None:
    scene.turns._settings = GatewaySettings(queue_timeout_seconds=0.001)
    await scene.turns.begin(scene.job())
    with pytest.raises(NotAwake, match=r"no turn came within 0\.001 s") as told:
        await scene.turns.begin(scene.job())
    assert (told.value.code, told.value.retry_after_seconds) == ("engines_busy", 2)


async def test_who_waits_for_a_turn_is_told_to_who_decides_how_many_engines_there_are(scene: Scene) -> None:
    scene.route = scene.route.model_copy(update={"elastic": ("lab/chat",)})
    first = await scene.turns.begin(scene.job())
    waiting = await scene.waits(scene.job())
    [told] = scene.demand.report().demands
    assert (told.endpoint, told.held) == ("lab/chat", 1)
    assert first is not None
    scene.turns.finish(first, 266)
    await waiting
    assert scene.demand.report().demands == ()


async def test_where_the_gateway_ends_nobody_waits_any_more(scene: Scene) -> None:
    await scene.turns.begin(scene.job())
    waiting = await scene.waits(scene.job())
    scene.turns.end()
    for asked in (waiting, scene.turns.begin(scene.job())):
        with pytest.raises(NotAwake, match="this gateway ends"):
            await asked


async def test_engines_are_asked_only_while_it_matters_and_what_they_tell_counts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    first = await scene.turns.begin(scene.job())
    assert scene.engines.asked == []
    scene.engines.requests = 1
    second = await scene.turns.begin(scene.job())
    assert scene.engines.asked == ["http://0"], "it was asked, and has nothing that waits"
    for turn in (first, second):
        assert turn is not None
        scene.turns.finish(turn, 266)
    assert turn is not None
    assert turn.room.turns.limit == 2


async def test_of_many_engines_a_few_are_asked_at_a_time_and_prefill_engines_give_no_turns(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    scene.route = route((*replicas(20), *replicas(3, "prefill")))
    scene.engines.tells = False
    for _ in range(21):
        turn = await scene.turns.begin(scene.job())
    assert len(scene.engines.asked) == module.LOOKED_AT
    assert not any("prefill" in url for url in scene.engines.asked)
    assert turn is not None
    assert turn.room.turns.limit == 40


async def test_another_table_keeps_what_was_found(scene: Scene) -> None:
    turn = await scene.turns.begin(scene.job())
    assert turn is not None
    scene.turns.finish(turn, 266)
    scene.turns.routes_changed()
    scene.route = route(replicas(4))
    again = await scene.turns.begin(scene.job())
    assert again is not None
    assert (again.room, again.room.turns.limit) == (turn.room, 4)
    scene.turns.finish(again, 266)
    scene.turns.routes_changed()
    scene.turns.routes_changed()
    assert scene.turns._rooms == {}


async def test_without_engines_or_queues_there_are_no_turns(scene: Scene) -> None:
    scene.route = route(())
    assert await scene.turns.begin(scene.job()) is None
    scene.route = route(replicas(1))
    scene.turns._settings = GatewaySettings(queued_requests_per_tenant=0)
    assert await scene.turns.begin(scene.job()) is None
