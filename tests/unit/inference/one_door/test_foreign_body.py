"""What of a request goes to those who serve an external model."""

import json
from typing import Any

import pytest

from common.errors import InvalidInput
from inference.core.apis.parsing import parse_body
from inference.core.body import Api, BodyLimits
from inference.core.one_door.foreign_body import foreign_body

CHAT = {"messages": [{"role": "user", "content": "hi"}]}
INPUTS: dict[Api, dict[str, Any]] = {
    "chat": CHAT,
    "completions": {"prompt": "hi"},
    "embeddings": {"input": "hi"},
    "messages": {**CHAT, "max_tokens": 5},
}
STAYS = {
    "metadata": {"user_id": "ann@example.com", "team": "x"},
    "user": "ann@example.com",
    "safety_identifier": "ann@example.com",
    "prompt_cache_key": "ann@example.com",
    "store": True,
    "service_tier": "priority",
    "models": ["another/model"],
    "provider": {"order": ["elsewhere"]},
    "route": "fallback",
    "plugins": [{"id": "web"}],
    "web_search_options": {},
    "mcp_servers": [{"url": "https://elsewhere.example"}],
    "kv_transfer_params": {"remote": 1},
}


def sent(api: Api, **more: Any) -> dict[str, Any]:
    raw = json.dumps({"model": "m", **INPUTS[api], **more}).encode()
    told: dict[str, Any] = json.loads(foreign_body(parse_body(api, raw, BodyLimits()), "theirs"))
    return told


@pytest.mark.parametrize("api", INPUTS)
def test_nothing_goes_out_but_what_the_model_reads(api: Api) -> None:
    assert sent(api, **STAYS) == {"model": "theirs", **INPUTS[api]}


def test_what_it_reads_goes_out() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    more = {"tools": tools, "temperature": 0, "max_completion_tokens": 7, "reasoning_effort": "low"}
    told = sent("chat", stream=True, stream_options={"continuous_usage_stats": True}, **more)
    rest = {"stream": True, "stream_options": {"include_usage": True}}
    assert told == {"model": "theirs", **CHAT, **more, **rest}
    own = [{"name": "f", "input_schema": {}}, {"type": "custom", "name": "g", "input_schema": {}}]
    assert sent("messages", tools=own, stop_sequences=["x"])["tools"] == own


@pytest.mark.parametrize("api", ["chat", "messages"])
@pytest.mark.parametrize("kind", ["web_search", "web_search_20250305", "mcp", 7])
def test_tools_that_the_provider_would_run_are_refused(api: Api, kind: Any) -> None:
    own = (
        {"type": "function", "function": {"name": "f"}}
        if api == "chat"
        else {"name": "f", "input_schema": {}}
    )
    with pytest.raises(InvalidInput) as error:
        sent(api, tools=[own, {"type": kind, "name": "s"}])
    assert (error.value.param or "").startswith("tools[1]")
