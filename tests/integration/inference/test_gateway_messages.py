"""Anthropic's API on a real engine, by its official client: answers, streams, tools, counts, errors, and
bills that equal the engine's own counters."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from common.auth import engine_headers
from inference.core.apis.events import RUNNING_USAGE
from tests.fixtures.engine import RealEngine
from tests.fixtures.gateway import SECRET, TOKEN, Serving, serving, table
from tests.integration.inference.test_gateway_exact import Counted, billed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

MESSAGES: Any = [{"role": "user", "content": "Tell me a long story about a small town."}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a place",
    "input_schema": {
        "type": "object",
        "properties": {"usage": {"type": "string", "enum": ["a", "b"]}},
        "required": ["usage"],
    },
}


@pytest.fixture
async def front(real_engine: RealEngine, tmp_path: Path) -> AsyncIterator[Serving]:
    routes = table([("r0", real_engine.url)], context_tokens=real_engine.context_tokens)
    async with serving(tmp_path, routes) as front:
        yield front


@pytest.fixture
async def client(front: Serving) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The official one, which shows its key as ``x-api-key``."""
    async with anthropic.AsyncAnthropic(base_url=front.url, api_key=SECRET, max_retries=0) as client:
        yield client


async def test_answers_streams_and_counts_are_billed_as_the_engine_counted(
    front: Serving, client: Any, real_engine: RealEngine
) -> None:
    counted = Counted(real_engine)
    asked: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "system": "You are brief."}
    plain = await client.messages.create(max_tokens=11, stop_sequences=["zzzz"], **asked)
    assert plain.stop_reason == "max_tokens"
    assert plain.usage.output_tokens == 11
    async with client.messages.stream(max_tokens=7, **asked) as stream:
        texts = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    assert "".join(texts) == final.content[0].text
    assert final.usage.output_tokens == 7
    told = await client.messages.count_tokens(**asked)
    events = await front.billed(2)
    assert [event["quantities"]["prompt_tokens"] for event in events] == [told.input_tokens] * 2
    assert [event["quantities"]["completion_tokens"] for event in events] == [11, 7]
    await counted.settles_at(billed(events, "prompt_tokens"), billed(events, "completion_tokens"))


@pytest.mark.parametrize("path", ["messages", "responses"])
async def test_engines_tell_all_the_while_what_they_have_used(real_engine: RealEngine, path: str) -> None:
    limit = "max_tokens" if path == "messages" else "max_output_tokens"
    asked = {"model": "tiny", "stream": True, limit: 5, "messages": MESSAGES, "input": MESSAGES}
    url = f"{real_engine.url}/v1/{path}"
    async with httpx.AsyncClient(headers=engine_headers(TOKEN), timeout=60) as client:
        stream = (await client.post(url, json=asked)).text
    told = re.findall(rf"^{RUNNING_USAGE} \d+ (\d)\n\n", stream, re.MULTILINE)
    assert len(told) == stream.count("event: ")
    assert told == sorted(told)
    assert {"0", "5"} <= set(told)


@pytest.mark.parametrize("after", [2, 20])
async def test_who_leaves_pays_what_the_engine_made(
    front: Serving, client: Any, real_engine: RealEngine, after: int
) -> None:
    counted = Counted(real_engine)
    stream = await client.messages.create(model="tiny", messages=MESSAGES, max_tokens=1500, stream=True)
    for _ in range(after):
        await anext(stream)
    await stream.close()
    [event] = await front.billed()
    await counted.settles_at(event["quantities"]["prompt_tokens"], event["quantities"]["completion_tokens"])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_is_called_with_what_its_schema_says(front: Serving, client: Any, stream: bool) -> None:
    asked = {"model": "tiny", "messages": MESSAGES, "max_tokens": 60, "tools": [WEATHER]}
    asked["tool_choice"] = {"type": "tool", "name": "get_weather"}
    if stream:
        async with client.messages.stream(**asked) as running:
            answer = await running.get_final_message()
    else:
        answer = await client.messages.create(**asked)
    [call] = [block for block in answer.content if block.type == "tool_use"]
    assert call.input["usage"] in ("a", "b")
    [event] = await front.billed()
    assert event["quantities"]["completion_tokens"] == answer.usage.output_tokens


async def test_errors_are_those_of_the_client(front: Serving, client: Any) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 5}
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.create(**{**asked, "model": "gone"})
    with pytest.raises(anthropic.BadRequestError, match=r"temperature") as refused:
        await client.messages.create(**asked, extra_body={"temperature": -3})
    told: Any = refused.value.body
    assert told["error"]["type"] == "invalid_request_error"
    source = {"type": "url", "url": "http://127.0.0.1/secret.png"}
    said = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\]\.content\[0\]\.source\.url"):
        await client.messages.create(**{**asked, "messages": said})
    stranger = client.with_options(api_key="ck-wrong")
    with pytest.raises(anthropic.AuthenticationError):
        await stranger.messages.create(**asked)
    assert front.control.events == {}
