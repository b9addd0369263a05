"""With a real engine: the tokens billed are the tokens that the engine itself has counted."""

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fixtures.engine import RealEngine
from tests.fixtures.gateway import Serving, serving, table

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

MESSAGES: Any = [{"role": "user", "content": "Tell me a long story about a small town."}]
LIMIT = 1800
LONG = {"max_tokens": LIMIT, "extra_body": {"min_tokens": LIMIT}}


@pytest.fixture
async def front(real_engine: RealEngine, tmp_path: Path) -> AsyncIterator[Serving]:
    routes = table([("r0", real_engine.url)], context_tokens=real_engine.context_tokens)
    async with serving(tmp_path, routes) as front:
        yield front


class Counted:
    """What the engine has counted since the test began."""

    def __init__(self, engine: RealEngine) -> None:
        self._engine = engine
        self._start = self._read()

    def _read(self) -> tuple[int, int]:
        return self._engine.counter("prompt_tokens"), self._engine.counter("generation_tokens")

    def now(self) -> tuple[int, int]:
        """(prompt tokens, generated tokens)"""
        prompt, generated = self._read()
        return prompt - self._start[0], generated - self._start[1]

    async def settles_at(self, prompt: int | Collection[int], generated: int) -> None:
        """The engine publishes its counters a moment after its answers. Of several values of ``prompt`` it
        may have counted any."""
        wanted = {(p, generated) for p in ([prompt] if isinstance(prompt, int) else prompt)}
        for _ in range(30):
            if self.now() in wanted:
                return
            await asyncio.sleep(0.1)
        assert self.now() in wanted


def check_outcome(event: dict[str, Any], limit: int) -> None:
    """The request was cut short, unless a starved engine sent nothing before it had made everything."""
    if event["quantities"]["completion_tokens"] < limit:
        assert event["outcome"] == "cancelled"


def billed(events: list[dict[str, Any]], meter: str) -> int:
    return sum(event["quantities"].get(meter, 0) for event in events)


async def test_plain_streamed_and_repeated_requests(front: Serving, real_engine: RealEngine) -> None:
    counted, client = Counted(real_engine), front.client()
    plain = await client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=11)
    stream = await client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=7, stream=True)
    chunks = [chunk async for chunk in stream]
    assert chunks
    assert all(chunk.usage is None for chunk in chunks)
    text = await client.completions.create(model="tiny", prompt=["a small", "the"], max_tokens=5)
    listed = await client.completions.create(model="tiny", prompt=["one", "two"], max_tokens=6, stream=True)
    assert [chunk async for chunk in listed]
    events = await front.billed(4)
    assert plain.usage is not None
    assert events[0]["quantities"]["completion_tokens"] == plain.usage.completion_tokens
    assert text.usage is not None
    assert events[2]["quantities"]["prompt_tokens"] == text.usage.prompt_tokens
    await counted.settles_at(billed(events, "prompt_tokens"), billed(events, "completion_tokens"))


@pytest.mark.parametrize("stream", [False, True])
async def test_several_choices(front: Serving, real_engine: RealEngine, stream: bool) -> None:
    counted = Counted(real_engine)
    answer = await front.client().chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=9, n=2, temperature=1.0, stream=stream
    )
    if stream:
        assert {chunk.choices[0].index async for chunk in answer} == {0, 1}
    [event] = await front.billed()
    prompt = event["quantities"]["prompt_tokens"]
    # The engine counts the prompt once for each choice; the client pays for it once.
    await counted.settles_at(2 * prompt, event["quantities"]["completion_tokens"])


@pytest.mark.parametrize("after_chunks", [1, 3, 20])
@pytest.mark.parametrize("extra", [{}, {"n": 2}], ids=["one", "n=2"])
async def test_clients_that_leave_a_chat_stream(
    front: Serving, real_engine: RealEngine, after_chunks: int, extra: dict[str, int]
) -> None:
    counted = Counted(real_engine)
    stream = await front.client().chat.completions.create(
        model="tiny", messages=MESSAGES, stream=True, **LONG, **extra
    )
    for _ in range(after_chunks):
        await anext(stream)
    await stream.close()
    [event] = await front.billed()
    n = extra.get("n", 1)
    check_outcome(event, n * LIMIT)
    # The engine counts the prompt for each choice that it had begun; the client pays for it once.
    prompt = event["quantities"]["prompt_tokens"]
    begun = [choices * prompt for choices in range(1, n + 1)]
    await counted.settles_at(begun, event["quantities"]["completion_tokens"])


async def test_clients_that_leave_a_completion_of_two_prompts(
    front: Serving, real_engine: RealEngine
) -> None:
    counted = Counted(real_engine)
    stream = await front.client().completions.create(
        model="tiny", prompt=["once upon", "a time"], stream=True, **LONG
    )
    for _ in range(12):  # by then the engine has begun both
        await anext(stream)
    await stream.close()
    [event] = await front.billed()
    check_outcome(event, 2 * LIMIT)
    await counted.settles_at(event["quantities"]["prompt_tokens"], event["quantities"]["completion_tokens"])


@pytest.mark.parametrize("wait_seconds", [0.02, 0.4])
async def test_clients_that_leave_a_plain_request(
    front: Serving, real_engine: RealEngine, wait_seconds: float
) -> None:
    counted = Counted(real_engine)
    with pytest.raises(openai.APITimeoutError):
        await front.client(timeout=wait_seconds).chat.completions.create(
            model="tiny", messages=MESSAGES, **LONG
        )
    if wait_seconds > 0.1:
        await front.billed()
    await asyncio.sleep(1)  # the early leaver may owe nothing at all
    events = list(front.control.events.values())
    await counted.settles_at(billed(events, "prompt_tokens"), billed(events, "completion_tokens"))


async def test_a_prompt_beyond_the_context_names_the_field(front: Serving) -> None:
    long = [{"role": "user", "content": "town " * 4000}]
    with pytest.raises(openai.BadRequestError) as error:
        await front.client().chat.completions.create(model="tiny", messages=long)
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "messages")
    assert front.control.events == {}


async def test_the_prefix_cache_is_told_apart_by_tenant_and_seen_on_the_bill(front: Serving) -> None:
    long: Any = [{"role": "user", "content": "the same long story about a small town again " * 12}]
    for _ in range(2):
        await front.client().chat.completions.create(model="tiny", messages=long, max_tokens=2)
    first, second = await front.billed(2)
    assert "cached_tokens" not in first["quantities"]
    assert second["quantities"]["cached_tokens"] > 0
