"""OpenAI's responses on a real engine, by the official client: answers, streams, tools, formats, errors, and
bills that equal the engine's own counters."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fixtures.engine import RealEngine
from tests.fixtures.gateway import Serving, serving, table
from tests.integration.inference.test_gateway_exact import Counted, billed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ASK: dict[str, Any] = {"model": "tiny", "input": "Tell me a long story about a small town."}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"usage": {"type": "string", "enum": ["a", "b"]}},
    "required": ["usage"],
    "additionalProperties": False,
}
"""It has a member of the name by which usage is told, and is repeated in the answer before that."""
TOOL: dict[str, Any] = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}


@pytest.fixture
async def front(real_engine: RealEngine, tmp_path: Path) -> AsyncIterator[Serving]:
    routes = table([("r0", real_engine.url)], context_tokens=real_engine.context_tokens)
    async with serving(tmp_path, routes) as front:
        yield front


async def test_answers_and_streams_are_billed_as_the_engine_counted(
    front: Serving, real_engine: RealEngine
) -> None:
    counted, client = Counted(real_engine), front.client()
    plain = await client.responses.create(**ASK, max_output_tokens=11, instructions="You are brief.")
    assert plain.usage.output_tokens == 11
    stream = await client.responses.create(**ASK, max_output_tokens=7, stream=True)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert (last.type, last.response.usage.output_tokens) == ("response.completed", 7)
    assert (
        "".join(event.delta for event in events if event.type.endswith("text.delta"))
        == last.response.output_text
    )
    told = await front.billed(2)
    assert [event["quantities"]["completion_tokens"] for event in told] == [11, 7]
    assert told[0]["quantities"]["prompt_tokens"] == plain.usage.input_tokens
    await counted.settles_at(billed(told, "prompt_tokens"), billed(told, "completion_tokens"))


@pytest.mark.parametrize("after", [1, 20])
async def test_who_leaves_pays_what_the_engine_made(
    front: Serving, real_engine: RealEngine, after: int
) -> None:
    counted = Counted(real_engine)
    stream = await front.client().responses.create(**ASK, max_output_tokens=1500, stream=True)
    for _ in range(after):
        await anext(stream)
    await stream.close()
    [event] = await front.billed()
    await counted.settles_at(event["quantities"]["prompt_tokens"], event["quantities"]["completion_tokens"])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_is_called_with_what_its_schema_says(front: Serving, stream: bool) -> None:
    asked = {**ASK, "max_output_tokens": 60, "tools": [TOOL], "tool_choice": "required"}
    answer = await front.client().responses.create(**asked, stream=stream)
    if stream:
        answer = [event async for event in answer][-1].response
    [call] = [item for item in answer.output if item.type == "function_call"]
    assert json.loads(call.arguments)["usage"] in ("a", "b")
    [event] = await front.billed()
    assert event["quantities"]["completion_tokens"] == answer.usage.output_tokens


async def test_an_answer_holds_to_the_format_that_was_asked_for(front: Serving) -> None:
    wanted = {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}
    answer = await front.client().responses.create(**ASK, max_output_tokens=60, text={"format": wanted})
    assert json.loads(answer.output_text)["usage"] in ("a", "b")


async def test_errors_are_those_of_the_client(front: Serving) -> None:
    client = front.client()
    with pytest.raises(openai.BadRequestError, match="previous_response_id") as stored:
        await client.responses.create(**ASK, previous_response_id="resp_1")
    assert stored.value.code == "unsupported_value"
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(**ASK, temperature=-3)
    assert refused.value.param == "temperature"
    wrong = {"type": "json_schema", "name": "x", "schema": {"type": 3}}
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError):
            await client.responses.create(**ASK, text={"format": wrong}, stream=stream)
    with pytest.raises(openai.NotFoundError, match="no stored response"):
        await client.responses.retrieve("resp_1")
    assert front.control.events == {}
