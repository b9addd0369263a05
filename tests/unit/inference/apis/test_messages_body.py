"""Bodies of Anthropic's API: what passes, what is refused, and by which path."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from inference.core.apis.parsing import parse_body
from inference.core.body import BodyLimits, InferenceRequest, engine_body

ASK: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
HOSTS = BodyLimits(media_hosts=("img.example",))


def parse(limits: BodyLimits = HOSTS, **change: Any) -> InferenceRequest:
    content = {name: value for name, value in {**ASK, **change}.items() if value is not ...}
    return parse_body("messages", json.dumps(content).encode(), limits)


def block(**content: Any) -> list[Any]:
    return [{"role": "user", "content": [content]}]


def test_what_is_read_of_a_body() -> None:
    request = parse(
        system="s", stream=True, metadata={"user_id": "u", "team": "a"}, tools=[], vllm_xargs={"priority": 1}
    )
    assert (request.task, request.api, request.model, request.stream) == ("chat", "messages", "m", True)
    assert request.token_limits == (("max_tokens", 9),)
    assert (request.session, request.user, request.tags) == ("u", "u", {"team": "a"})
    assert request.input_field == "messages"


def test_an_engine_is_told_all_but_what_reaches_across_tenants() -> None:
    request = parse(
        priority=3, cache_salt="theirs", kv_transfer_params={}, vllm_xargs={"cache_salt": "x"}, new=1
    )
    told = json.loads(engine_body(request, "weights", "acme"))
    assert told == {**ASK, "model": "weights", "cache_salt": "acme", "vllm_xargs": {}, "new": 1}


def test_a_longer_conversation_begins_like_a_shorter_one() -> None:
    first = [{"role": "user", "content": "hi"}]
    longer = [*first, {"role": "assistant", "content": "ho"}]
    assert bytes(parse(messages=longer, system="s").prompt).startswith(
        bytes(parse(messages=first, system="s", stream=True).prompt)[:-1]
    )


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": ""}, "model"),
        ({"max_tokens": ...}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"messages": []}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": block(type="document", source={})}, "messages[0].content[0].type"),
        ({"messages": block(type="text")}, "messages[0].content[0].text"),
        ({"messages": block(type="text", text=3)}, "messages[0].content[0].text"),
        ({"messages": block(type="image", source={"type": "file"})}, "messages[0].content[0].source.type"),
        (
            {"messages": block(type="image", source={"type": "base64"})},
            "messages[0].content[0].source.media_type",
        ),
        (
            {"messages": block(type="tool_result", tool_use_id="t", content=[1])},
            "messages[0].content[0].content[0]",
        ),
        ({"system": [{"type": "text"}]}, "system[0].text"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stop_sequences": ["a"] * 5}, "stop_sequences"),
        ({"stop_sequences": ["a", ""]}, "stop_sequences[1]"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{"type": "web_search_20250305", "name": "f"}]}, "tools[0].type"),
        ({"tools": [{"name": "f", "input_schema": {"$ref": "#"}}]}, "tools[0].input_schema"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "on"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens"),
        ({"output_config": {"format": {"schema": {"$ref": "#"}}}}, "output_config.format.schema"),
        ({"metadata": {"user_id": 3}}, "metadata.user_id"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(**change)
    assert refused.value.param == param
    assert param in refused.value.message


def image(url: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "url", "url": url}}


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "file:///etc/passwd", "http://img.example@10.0.0.1/", "//x"]
)
@pytest.mark.parametrize("inside", [False, True])
def test_an_engine_fetches_nothing_from_elsewhere(url: str, inside: bool) -> None:
    part = image(url)
    said = {"type": "tool_result", "tool_use_id": "t", "content": [part]} if inside else part
    with pytest.raises(InvalidInput) as refused:
        parse(messages=[{"role": "user", "content": [said]}])
    assert refused.value.code == "invalid_url"
    assert str(refused.value.param).endswith(".source.url")


def test_what_is_allowed_or_sent_along_passes() -> None:
    data = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    parse(messages=[{"role": "user", "content": [image("https://img.example/a.png"), data]}])
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"image_url": "http://10.0.0.1/"}}
    parse(messages=[{"role": "assistant", "content": [call]}])


def test_counting_needs_no_limit_and_is_of_no_length() -> None:
    content = {name: value for name, value in ASK.items() if name != "max_tokens"}
    request = parse_body("count_tokens", json.dumps(content).encode(), HOSTS)
    assert (request.api, request.stream, request.token_limits, request.prompt_bytes) == (
        "count_tokens",
        False,
        (),
        0,
    )


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3000)
    | st.sampled_from(["text", "image", "user", "enabled", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "source", "content", "role", "url", "name", "input_schema", "$ref"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "messages",
                "system",
                "tools",
                "tool_choice",
                "thinking",
                "metadata",
                "stop_sequences",
                "output_config",
            ]
        ),
        _values,
    )
)
def test_any_body_is_read_or_refused_by_a_field(change: dict[str, Any]) -> None:
    found: list[str | None] = []
    for api in ("messages", "count_tokens"):
        try:
            parse_body(api, json.dumps({**ASK, **change}).encode(), HOSTS)
        except InvalidInput as error:
            found.append(error.param)
    assert all(found)
