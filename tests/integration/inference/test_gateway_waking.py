"""Requests that wait for an engine instead of failing: how many, how long, and who is told of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from common.ids import secret_digest
from common.wire import RoutingTable
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import OTHER_SECRET, SECRET, Serving, serving, table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

MESSAGES: Any = [{"role": "user", "content": "one two three"}]
NAME = "acme-bots/chat"


def asleep(version: str = "1", **route: Any) -> RoutingTable:
    return table([], version, **{"elastic": (NAME,), "shared": True, **route})


def awake(engine: FakeEngine, version: str = "2", **route: Any) -> RoutingTable:
    return table([("r0", engine.url)], version, **{"elastic": (NAME,), "shared": True, **route})


@asynccontextmanager
async def sleeping(home: Path, **settings: Any) -> AsyncIterator[tuple[Serving, FakeEngine]]:
    """A gateway whose only Endpoint has no engine; one is there, but not in the table yet."""
    engine = FakeEngine()
    await engine.start()
    try:
        async with serving(home, asleep(), **settings) as front:
            yield front, engine
    finally:
        await engine.stop()


async def ask(front: Serving, secret: str = SECRET, **options: Any) -> Any:
    options = {"model": "tiny", "messages": MESSAGES, "max_tokens": 4, **options}
    return await front.client(secret).chat.completions.create(**options)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def told(front: Serving) -> list[dict[str, int]]:
    """What control was told of the Endpoint, report by report."""
    reports = [report["demands"] for report in front.control.demands]
    return [{key: one[key] for key in ("held", "active")} for [one] in reports if one["endpoint"] == NAME]


async def test_plain_and_streamed_requests_wait_for_the_engine_and_are_billed_as_ever(tmp_path: Path) -> None:
    async with sleeping(tmp_path) as (front, engine):
        plain = asyncio.create_task(ask(front))
        streamed = asyncio.create_task(ask(front, stream=True))
        await until(lambda: any(one["held"] == 2 for one in told(front)))
        assert not engine.bodies
        front.control.table = awake(engine)
        assert (await plain).usage.completion_tokens == 4
        chunks = [chunk async for chunk in await streamed]
        assert chunks[-1].choices[0].finish_reason
        events = await front.billed(2)
        assert [event["quantities"]["completion_tokens"] for event in events] == [4, 4]
        assert engine.generated == 8
        await until(lambda: front.control.demands[-1]["demands"] == [])


async def test_control_is_told_at_once_and_again_and_forgets_who_has_left(tmp_path: Path) -> None:
    async with sleeping(tmp_path) as (front, _):
        waiting = asyncio.create_task(ask(front))
        await until(lambda: bool(told(front)))
        assert told(front)[0] == {"held": 1, "active": 1}
        await until(lambda: len(told(front)) >= 2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await until(lambda: front.control.demands[-1]["demands"] == [])
        assert not front.control.events


async def test_an_engine_that_does_not_come_is_waited_for_so_long_only(tmp_path: Path) -> None:
    async with sleeping(tmp_path, waking_timeout_seconds=0.3) as (front, _):
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as error:
                await ask(front, stream=stream)
            assert error.value.status_code == 503
            assert error.value.response.headers["retry-after"] == "30"
            assert error.value.code == "engine_waking"
            assert "did not come up within 0.3 s" in str(error.value)


async def test_a_tenant_has_so_many_that_wait_and_takes_no_place_of_others(tmp_path: Path) -> None:
    limits = {"waking_requests_per_tenant": 3, "waking_requests_per_endpoint": 4}
    async with sleeping(tmp_path, **limits) as (front, engine):
        first = [asyncio.create_task(ask(front)) for _ in range(50)]
        await until(lambda: sum(task.done() for task in first) == 47)
        refused = [task.exception() for task in first if task.done()]
        assert {type(error) for error in refused} == {openai.RateLimitError}
        assert isinstance(refused[0], openai.RateLimitError)
        assert refused[0].response.headers["retry-after"] == "30"
        other = asyncio.create_task(ask(front, OTHER_SECRET))
        await until(lambda: any(one["held"] == 4 for one in told(front)))
        with pytest.raises(openai.InternalServerError, match="no more requests may wait for it"):
            await ask(front, OTHER_SECRET)
        front.control.table = awake(engine)
        answers = await asyncio.gather(*(task for task in first if not task.done()), other)
        assert len(answers) == 4


async def test_bodies_that_wait_have_so_many_bytes(tmp_path: Path) -> None:
    async with sleeping(tmp_path, waking_body_bytes_per_endpoint=10_000) as (front, engine):
        long: Any = [{"role": "user", "content": "word " * 1200}]
        waiting = asyncio.create_task(ask(front, messages=long))
        await until(lambda: bool(told(front)))
        with pytest.raises(openai.InternalServerError, match="no more requests may wait"):
            await ask(front, messages=long)
        front.control.table = awake(engine)
        await waiting


async def test_a_key_that_is_revoked_waits_no_longer(tmp_path: Path) -> None:
    async with sleeping(tmp_path) as (front, _):
        waiting = asyncio.create_task(ask(front))
        await until(lambda: bool(told(front)))
        keys = tuple(key for key in asleep().keys if key.digest != secret_digest(SECRET))
        front.control.table = asleep("2").model_copy(update={"keys": keys})
        with pytest.raises(openai.AuthenticationError):
            await waiting


async def test_an_engine_that_went_while_it_was_asked_is_waited_for(tmp_path: Path) -> None:
    """The table names an engine that is gone: nobody has begun the request, so it waits for the next one."""
    async with sleeping(tmp_path) as (front, engine):
        gone = FakeEngine()
        await gone.start()
        await gone.stop()
        front.control.table = awake(gone)
        await until(lambda: front.gateway.routes.index.version == "2")
        waiting = asyncio.create_task(ask(front))
        await until(lambda: any(one["held"] for one in told(front)))
        front.control.table = awake(engine, "3")
        assert (await waiting).usage.completion_tokens == 4
        assert len(await front.billed()) == 1


async def test_what_does_not_wake_fails_at_once_as_before(tmp_path: Path) -> None:
    async with serving(tmp_path, asleep(elastic=())) as front:
        with pytest.raises(openai.InternalServerError, match="no engine of tiny is there now"):
            await ask(front)


@pytest.mark.parametrize(
    "change",
    [
        lambda: asleep("2", elastic=()),
        lambda: asleep("2", project="others"),
        lambda: asleep("2").model_copy(update={"routes": ()}),
    ],
    ids=["cannot-start", "another-one", "deleted"],
)
async def test_what_will_not_come_is_waited_for_no_longer(
    tmp_path: Path, change: Callable[[], RoutingTable]
) -> None:
    async with sleeping(tmp_path) as (front, _):
        waiting = asyncio.create_task(ask(front))
        await until(lambda: bool(told(front)))
        front.control.table = change()
        with pytest.raises((openai.InternalServerError, openai.NotFoundError)):
            await asyncio.wait_for(waiting, 5)


async def test_control_that_is_away_delays_and_loses_nothing(tmp_path: Path) -> None:
    async with sleeping(tmp_path) as (front, engine):
        await front.control.stop()
        waiting = asyncio.create_task(ask(front))
        await asyncio.sleep(1)
        front.control.table = awake(engine)
        await front.control.start()
        assert (await asyncio.wait_for(waiting, 20)).usage.completion_tokens == 4


async def test_an_adapter_wakes_the_engine_of_its_base(tmp_path: Path) -> None:
    names = {"model": "ft:tiny:acme:zoo:1", "backend_model": "ft:tiny:acme:zoo:1", "base_model": "tiny"}
    async with sleeping(tmp_path) as (front, engine):
        front.control.table = asleep("2", **names)
        await until(lambda: front.gateway.routes.index.version == "2")
        waiting = asyncio.create_task(ask(front, model=names["model"]))
        await until(lambda: any(one["held"] == 1 for one in told(front)))
        front.control.table = awake(engine, "3", **names)
        await waiting
        [event] = await front.billed()
        assert (event["model"], event["base_model"]) == (names["model"], "tiny")
