"""With a real engine: mistakes are told as mistakes, by field and once, and what is delivered is billed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from inference.gateway.engines.upstream import EngineCall
from tests.fixtures.engine import RealEngine
from tests.fixtures.gateway import SECRET, Serving, as_events, serving, table
from tests.integration.inference.test_gateway_exact import Counted, billed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

USER: Any = [{"role": "user", "content": "What is a watt?"}]


@pytest.fixture
async def front(real_engine: RealEngine, tmp_path: Path) -> AsyncIterator[Serving]:
    routes = table([("r0", real_engine.url)], context_tokens=real_engine.context_tokens)
    async with serving(tmp_path, routes) as front:
        yield front


def schema(content: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": content}}}


ODD: dict[str, dict[str, Any]] = {
    "half a character in stop": {"stop": ["end \udc97"]},
    "half a character in bad words": {"bad_words": ["\ud800"]},
    "five stops": {"stop": ["a", "b", "c", "d", "e"]},
    "schema of itself": schema({"$ref": "#"}),
    "schema of itself by turns": schema({"anyOf": [{"$ref": "#"}]}),
    "schema of an unknown type": schema({"type": "watt"}),
    "empty grammar": {"structured_outputs": {"grammar": "root ::= "}},
    "grammar of nonsense": {"structured_outputs": {"grammar": "((("}},
    "regex of nonsense": {"structured_outputs": {"regex": "((("}},
    "number as a name": {"messages": [{"role": "user", "content": "hi", "name": 5}]},
    "null content": {"messages": [{"role": "user", "content": None}]},
    "part without text": {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
    "part of another API": {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]},
    "unknown tool choice": {"tool_choice": "maybe"},
    "temperature of text": {"temperature": "hot"},
    "huge logit bias": {"logit_bias": {"999999999": 1}},
    "image for a text model": {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]
    },
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("change", ODD.values(), ids=ODD.keys())
async def test_a_clients_mistake_is_a_mistake_named_in_plain_words(
    front: Serving, stream: bool, change: dict[str, Any]
) -> None:
    body = {"model": "tiny", "messages": USER, "max_tokens": 4, "stream": stream, **change}
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {SECRET}"}, timeout=60) as client:
        answer = await client.post(f"{front.url}/v1/chat/completions", content=json.dumps(body))
    if stream and answer.status_code == 200:  # the engine found out when the answer had begun
        *_, last, done = as_events(answer.content)
        assert done == "[DONE]"
        error = last["error"]
    else:
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
    assert error["type"] == "invalid_request_error", error
    for word in ("pydantic", "Param", "ValidatorIterator", "Union[", "Traceback", "engine broke"):
        assert word not in error["message"]


async def test_a_plain_request_whose_engine_cannot_be_told_to_stop_is_billed_as_it_counted(
    front: Serving, real_engine: RealEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_route(self: EngineCall) -> bool:
        return False

    monkeypatch.setattr(EngineCall, "abort", no_route)
    counted = Counted(real_engine)
    with pytest.raises(openai.APITimeoutError):
        await front.client(timeout=0.4).chat.completions.create(
            model="tiny", messages=USER, max_tokens=1800, extra_body={"ignore_eos": True}
        )
    events = await front.billed()
    assert events[0]["outcome"] == "cancelled"
    await counted.settles_at(billed(events, "prompt_tokens"), billed(events, "completion_tokens"))
    assert billed(events, "completion_tokens") == 1800
