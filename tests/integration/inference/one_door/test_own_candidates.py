"""Routes over engines of the platform: who answers, what the client sees, and what is billed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from common.doors import RouteCandidate
from common.wire import Route
from tests.fixtures.doors import PROJECT, door, doors, own
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import Serving, serving

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

MESSAGES: Any = [{"role": "user", "content": "one two three"}]


@asynccontextmanager
async def engines(count: int) -> AsyncIterator[list[FakeEngine]]:
    started = [FakeEngine() for _ in range(count)]
    for engine in started:
        await engine.start()
    try:
        yield started
    finally:
        for engine in started:
            await engine.stop()


async def ask(front: Serving, model: str = "smart", **options: Any) -> tuple[Any, dict[str, str]]:
    """The answer and the header that tells the way."""
    options = {"messages": MESSAGES, "max_tokens": 4, **options}
    raw = await front.client().chat.completions.with_raw_response.create(model=model, **options)
    told = raw.headers["x-computility-route"].split("; ")
    return raw.parse(), dict(part.split("=", 1) for part in told)


async def test_the_first_candidate_answers_under_the_name_of_the_route(tmp_path: Path) -> None:
    async with engines(2) as (one, two):
        table = doors(own("small", one.url), own("large", two.url), door("smart", "small", "large"))
        async with serving(tmp_path, table) as front:
            answer, told = await ask(front)
            assert answer.model == "smart"
            assert told == {"route": "smart", "model": "small"}
            stream, told = await ask(front, stream=True)
            models = {chunk.model async for chunk in stream}
            assert models == {"smart"}
            [plain, streamed] = await front.billed(2)
            for event in (plain, streamed):
                assert (event["model"], event["labels"]["route"]) == ("small", "smart")
                assert event["model_identity"] == f"{PROJECT}/small"
                assert event["quantities"]["completion_tokens"] == 4
            assert one.generated == 8
            assert not two.bodies


async def test_who_fails_before_the_first_byte_costs_nothing_and_another_answers(
    tmp_path: Path,
) -> None:
    async with engines(2) as (one, two):
        one.fail_with = (503, {"error": {"message": "down"}})
        table = doors(own("small", one.url), own("large", two.url), door("smart", "small", "large"))
        async with serving(tmp_path, table) as front:
            _, told = await ask(front)
            assert told == {"route": "smart", "model": "large", "tried": "small:error"}
            stream, told = await ask(front, stream=True)
            assert [chunk async for chunk in stream]
            assert told["model"] == "large"
            events = await front.billed(2)
            assert [event["model"] for event in events] == ["large", "large"]
            assert {event["labels"]["route_tried"] for event in events} <= {"small:error", "small:no_engine"}
            assert sum(event["quantities"]["completion_tokens"] for event in events) == two.generated


async def test_a_model_that_sleeps_is_woken_and_does_not_hold_up_the_request(tmp_path: Path) -> None:
    async with engines(2) as (one, two):

        def table(version: str, *urls: str) -> Any:
            asleep = own("small", *urls, elastic=(f"{PROJECT}/small",))
            return doors(asleep, own("large", two.url), door("smart", "small", "large"), version=version)

        async with serving(tmp_path, table("1")) as front:
            _, told = await ask(front)
            assert told == {"route": "smart", "model": "large", "tried": "small:no_engine"}
            while not front.control.demands:
                await front.billed(1)
            assert front.control.demands[0]["demands"][0]["endpoint"] == f"{PROJECT}/small"
            await front.follow(table("2", one.url))
            _, told = await ask(front)
            assert told == {"route": "smart", "model": "small"}
            assert [event["model"] for event in await front.billed(2)] == ["large", "small"]


@pytest.mark.parametrize(
    ("routes", "status", "code"),
    [
        ([door("smart", RouteCandidate(model="gone"))], 503, "no_candidate"),
        ([own("small"), door("smart", "small")], 503, "unavailable"),
        ([own("small", tasks=("embeddings",)), door("smart", "small")], 400, "no_candidate"),
    ],
)
async def test_where_nobody_can_answer_the_error_says_why(
    tmp_path: Path, routes: list[Route], status: int, code: str
) -> None:
    async with serving(tmp_path, doors(*routes)) as front:
        with pytest.raises(openai.APIStatusError) as error:
            await ask(front)
        assert (error.value.status_code, error.value.code) == (status, code)
        assert not front.control.events


async def test_an_answer_that_fails_its_check_is_billed_and_a_larger_model_is_asked(tmp_path: Path) -> None:
    async with engines(2) as (one, two):
        cascade = door("smart", "small", "large", checks=("truncation",))
        table = doors(own("small", one.url), own("large", two.url), cascade)
        async with serving(tmp_path, table) as front:
            _, told = await ask(front)  # cut off at max_tokens by both
            assert told == {"route": "smart", "model": "large", "tried": "small:truncation"}
            [first, second] = await front.billed(2)
            assert first["labels"]["route_check"] == "truncation"
            assert (first["model"], second["model"]) == ("small", "large")
            two.fail_with = (503, {"error": {"message": "down"}})
            answer, told = await ask(front)
            assert answer.model == "smart"
            assert (
                told == {"route": "smart", "model": "small", "tried": "large:error"}
                or "small" in told["model"]
            )
            assert len(await front.billed(3)) == 3


async def test_a_candidate_that_is_late_is_left_and_costs_nothing(tmp_path: Path) -> None:
    async with engines(2) as (one, two):
        one.token_seconds = 5.0
        late = door("smart", "small", "large", deadline_ms=300)
        table = doors(own("small", one.url), own("large", two.url), late)
        async with serving(tmp_path, table) as front:
            _, told = await ask(front)
            assert told == {"route": "smart", "model": "large", "tried": "small:deadline"}
            assert [event["model"] for event in await front.billed(1)] == ["large"]
