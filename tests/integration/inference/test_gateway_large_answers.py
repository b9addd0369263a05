"""Answers that are too large to be given out in one piece are billed, as they were made, and no engine is
blamed for them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from common.auth import engine_key
from inference.gateway.engines import whole_answer
from tests.fixtures.fake_engine import FakeEngine
from tests.fixtures.gateway import TOKEN, Serving, serving, table

pytestmark = pytest.mark.integration

ASK: Any = {"model": "tiny", "messages": [{"role": "user", "content": "three words here"}]}
LARGE: Any = {**ASK, "n": 20, "max_tokens": 1000}


@pytest.fixture
async def engines() -> AsyncIterator[list[FakeEngine]]:
    engines = [FakeEngine(key=engine_key(TOKEN)) for _ in range(2)]
    for engine in engines:
        await engine.start()
    yield engines
    for engine in engines:
        await engine.stop()


async def refused(front: Serving) -> openai.BadRequestError:
    with pytest.raises(openai.BadRequestError, match="is billed, but it is too large") as error:
        await front.client(max_retries=2).chat.completions.create(**LARGE)
    return error.value


async def test_an_answer_beyond_the_limit_is_billed_and_told_and_made_once(
    engines: list[FakeEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_answer, "ANSWER_LIMIT_BYTES", 50_000)
    async with serving(tmp_path, table([(f"r{n}", e.url) for n, e in enumerate(engines)])) as front:
        for number in range(1, 7):
            assert (await refused(front)).code == "answer_too_large"
            events = await front.billed(number)
            assert [event["quantities"]["completion_tokens"] for event in events] == [20_000] * number
            assert sum(engine.generated for engine in engines) == 20_000 * number
        answer = await front.client().chat.completions.create(**ASK, max_tokens=3)
        assert answer.usage.completion_tokens == 3, "no engine rests for it"


async def test_one_tenant_does_not_fill_the_memory_of_the_gateway_with_answers(
    engines: list[FakeEngine], tmp_path: Path
) -> None:
    routes = table([("r0", engines[0].url)], shared=True)
    async with serving(tmp_path, routes, answer_bytes_per_tenant=50_000) as front:
        assert (await refused(front)).code == "answer_too_large"
        small = await front.client().chat.completions.create(**ASK, max_tokens=3)
        assert small.usage.completion_tokens == 3, "nothing of it is held any more"
        events = await front.billed(2)
        assert sum(e["quantities"]["completion_tokens"] for e in events) == engines[0].generated == 20_003
