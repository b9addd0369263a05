"""Requests that wait for an engine, on a clock that the test moves: who may, how long, what control hears."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from prometheus_client import REGISTRY

from common.wire import RouteBudget, RoutingTable
from inference.core.usage import TokenCounts
from inference.gateway.control_link import demand
from inference.gateway.control_link.demand import ASKED_SECONDS
from inference.gateway.main import GatewayServer
from tests.fixtures.gateway import OTHER_SECRET, table
from tests.fixtures.wire import Answer
from tests.unit.inference.gateway.front_scene import ASK, Front, StandInBudgets, front_scene

NAME = "acme-bots/chat"


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def waiting() -> float:
    return metric("computility_gateway_waking")


def asleep(version: str = "2", **route: Any) -> RoutingTable:
    return table([], version, **{"elastic": (NAME,), "shared": True, **route})


def keyed(**key: Any) -> RoutingTable:
    """A table with an engine, and the asker's key as it is said; without it where nothing is said."""
    told = table([("r0", "http://r0")], "3", elastic=(NAME,), shared=True)
    (mine, other) = told.keys
    return told.model_copy(update={"keys": (mine.model_copy(update=key), other) if key else (other,)})


def awake(front: Front, version: str = "3") -> RoutingTable:
    return front.routes(version, elastic=(NAME,), shared=True)


@pytest.fixture
async def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Front]:
    limits: dict[str, Any] = {
        "waking_timeout_seconds": 60.0,
        "waking_requests_per_tenant": 2,
        "waking_requests_per_endpoint": 3,
        "waking_body_bytes_per_endpoint": 4000,
        "waking_body_bytes_per_tenant": 3000,
    }
    async with front_scene(tmp_path, monkeypatch, **limits) as made:
        await made.stand_still()
        made.tell(asleep())
        yield made


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.001)


def asked(front: Front, count: int = 1, body: Any = ASK, **options: Any) -> list[asyncio.Task[Answer]]:
    return [asyncio.create_task(front.ask(body, **options)) for _ in range(count)]


async def test_those_who_wait_are_answered_when_a_table_has_an_engine(front: Front) -> None:
    served = metric("computility_gateway_woken_total", how="served")
    tasks = asked(front) + asked(front, body={**ASK, "stream": True})
    await until(lambda: waiting() == 2)
    front.tell(asleep("another"))
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in tasks)
    front.clock.advance(59)
    front.tell(awake(front))
    assert [answer.status for answer in await asyncio.gather(*tasks)] == [200, 200]
    assert len(front.spooled()) == 2
    assert (waiting(), metric("computility_gateway_woken_total", how="served")) == (0, served + 2)


async def test_who_has_waited_holds_what_the_engines_that_came_may_cost(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = StandInBudgets()
    monkeypatch.setattr(front.gateway._inference, "_budgets", budgets)
    budget = RouteBudget(id="b", name="b", tenant="acme", period="total", unit="tokens", limit=1, from_ms=0)
    bound = {"budgets": (budget,)}
    front.tell(asleep().model_copy(update=bound))
    [task] = asked(front)
    await until(lambda: waiting() == 1)
    front.tell(awake(front).model_copy(update=bound))
    assert (await task).status == 200
    assert [len(asking.route.replicas) for asking in budgets.asked] == [0, 1]
    before, billed = budgets.settled
    assert before == TokenCounts()
    assert billed.completion


async def test_the_wait_has_an_end(front: Front) -> None:
    [task] = asked(front)
    await until(lambda: waiting() == 1)
    front.clock.advance(60)
    front.tell(asleep("another"))
    answer = await task
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert answer.json["error"]["code"] == "engine_waking"
    assert "did not come up within 60 s" in answer.json["error"]["message"]
    assert (waiting(), front.spooled()) == (0, [])


async def test_so_many_of_a_tenant_and_of_an_endpoint_wait(front: Front) -> None:
    tasks = asked(front, 2)
    await until(lambda: waiting() == 2)
    answer = await front.ask(ASK)
    assert (answer.status, answer.headers["retry-after"]) == (429, "30")
    tasks += asked(front, secret=OTHER_SECRET)
    await until(lambda: waiting() == 3)
    answer = await front.ask(ASK, secret=OTHER_SECRET)
    assert (answer.status, answer.json["error"]["code"]) == (503, "engine_waking")
    front.tell(awake(front))
    assert {answer.status for answer in await asyncio.gather(*tasks)} == {200}
    front.tell(asleep("4"))
    again = asked(front, 2)
    await until(lambda: waiting() == 2)
    front.tell(awake(front, "5"))
    assert {answer.status for answer in await asyncio.gather(*again)} == {200}, "places are given back"


async def test_so_many_bytes_of_bodies_wait(front: Front) -> None:
    long = {**ASK, "messages": [{"role": "user", "content": "x" * 2000}]}
    tasks = asked(front, body=long)
    await until(lambda: waiting() == 1)
    answer = await front.ask(long)
    assert (answer.status, answer.headers["retry-after"]) == (429, "30"), "others find room"
    longer = {**ASK, "messages": [{"role": "user", "content": "x" * 2500}]}
    assert (await front.ask(longer, secret=OTHER_SECRET)).status == 503
    tasks += asked(front)
    await until(lambda: waiting() == 2)
    front.tell(awake(front))
    assert {answer.status for answer in await asyncio.gather(*tasks)} == {200}


async def test_who_may_not_wait_wakes_an_engine_all_the_same(front: Front) -> None:
    await front.start_control()
    front.gateway._inference._waiting_room._settings.waking_body_bytes_per_tenant = 10
    teller = front.gateway._inference._demand
    refused = metric("computility_gateway_woken_total", how="refused")
    assert (await front.ask(ASK)).status == 429
    assert metric("computility_gateway_woken_total", how="refused") == refused + 1
    assert teller._news.is_set()
    await teller.tell()
    [told] = front.control.demands
    assert told["demands"] == [{"endpoint": NAME, "held": 1, "active": 0}]
    teller._asked_until[NAME] -= ASKED_SECONDS
    await teller.tell()
    await teller.tell()
    assert [one["demands"] for one in front.control.demands[1:]] == [[]]


async def test_control_is_told_so_often_only_however_often_somebody_begins_to_wait(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    teller, rests = front.gateway._inference._demand, []

    async def tell() -> None:
        teller._news.set()

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(teller, "tell", tell)
    monkeypatch.setattr(demand.asyncio, "sleep", rest)
    teller._news.set()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await teller.run()
    assert rests == [demand.LEAST_SECONDS] * 3


@pytest.mark.parametrize(
    ("told", "status", "said"),
    [
        (asleep("3", elastic=()), 503, "cannot be started as it is"),
        (asleep("3", project="others"), 503, "another one has its name"),
        (asleep("3", backend_model="weights-7"), 503, "another one has its name"),
        (asleep("3").model_copy(update={"routes": ()}), 404, "does not exist"),
        (RoutingTable(version=""), 503, "no keys are known"),
        (keyed(), 401, "unknown or was revoked"),
        (keyed(expires_ms=1), 401, "has expired"),
        (keyed(models=("other",)), 404, "does not exist"),
        (keyed(tenant="umbrella", project="other-bots"), 503, "another one has its name"),
    ],
)
async def test_what_will_not_come_is_said_at_once(
    front: Front, told: RoutingTable, status: int, said: str
) -> None:
    [task] = asked(front)
    await until(lambda: waiting() == 1)
    front.tell(told)
    answer = await task
    assert answer.status == status
    assert said in answer.json["error"]["message"]


async def test_control_hears_who_waits_and_works_and_when_nobody_does(front: Front) -> None:
    await front.start_control()
    teller = front.gateway._inference._demand
    await teller.tell()
    assert front.control.demands == []
    [task] = asked(front)
    await until(lambda: waiting() == 1)
    assert teller._news.is_set()
    await teller.tell()
    front.tell(awake(front))
    await task
    await teller.tell()
    await teller.tell()
    [first, last] = front.control.demands
    assert first["demands"] == [{"endpoint": NAME, "held": 1, "active": 1}]
    assert last["demands"] == []
    assert first["gateway"] == last["gateway"]


async def test_of_an_adapter_on_two_endpoints_the_first_wakes(front: Front) -> None:
    front.tell(asleep("3", elastic=(NAME, "acme-bots/other")))
    [task] = asked(front)
    await until(lambda: waiting() == 1)
    report = front.gateway._inference._demand.report()
    assert [(one.endpoint, one.held, one.active) for one in report.demands] == [(NAME, 1, 0)]
    front.tell(awake(front, "4"))
    assert (await task).status == 200


async def test_an_endpoint_that_takes_the_place_of_another_wakes_for_those_who_wait(front: Front) -> None:
    tasks = asked(front, 2)
    await until(lambda: waiting() == 2)
    teller = front.gateway._inference._demand
    teller._news.clear()
    front.tell(asleep("3", elastic=("acme-bots/second",)))
    await until(teller._news.is_set)
    await until(lambda: teller._held == {"acme-bots/second": 2})
    front.tell(awake(front, "4"))
    assert {answer.status for answer in await asyncio.gather(*tasks)} == {200}
    assert teller._held == {}


async def test_a_gateway_that_ends_keeps_nobody_waiting(front: Front) -> None:
    tasks = asked(front) + asked(front, body={**ASK, "stream": True})
    await until(lambda: waiting() == 2)
    server = GatewayServer(uvicorn.Config(front.gateway), front.gateway)
    server.servers, server.force_exit = [], True
    await server.shutdown()
    async with asyncio.timeout(5):
        answers = [*(await asyncio.gather(*tasks)), await front.ask(ASK)]
    for answer in answers:
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "this gateway ends; send it again" in answer.json["error"]["message"]
    assert (waiting(), front.spooled()) == (0, [])
    front.tell(awake(front))
    assert (await front.ask(ASK)).status == 200, "what has an engine is served to the end"


async def test_without_it_nobody_waits(front: Front) -> None:
    front.tell(asleep("3", elastic=()))
    answer = await front.ask(ASK)
    assert (answer.status, waiting()) == (503, 0)
    assert "no engine of tiny is there now" in answer.json["error"]["message"]
