"""Bodies of OpenAI's responses: what passes, what is refused, and by which path."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from inference.core.apis.parsing import parse_body
from inference.core.body import BodyLimits, InferenceRequest, engine_body

ASK: dict[str, Any] = {"model": "m", "input": "hi"}
HOSTS = BodyLimits(media_hosts=("img.example",))
URL = "http://169.254.169.254/latest"


def parse(**change: Any) -> InferenceRequest:
    content = {name: value for name, value in {**ASK, **change}.items() if value is not ...}
    return parse_body("responses", json.dumps(content).encode(), HOSTS)


def said(*parts: Any, role: str = "user") -> list[Any]:
    return [{"role": role, "content": list(parts)}]


def test_what_is_read_of_a_body() -> None:
    request = parse(max_output_tokens=9, stream=True, user="u", metadata={"a": "b"}, store=False)
    assert (request.task, request.api, request.stream) == ("chat", "responses", True)
    assert request.token_limits == (("max_output_tokens", 9),)
    assert (request.session, request.user, request.tags) == ("u", "u", {"a": "b"})
    assert parse(prompt_cache_key="k", user="u").session == "k"


def test_an_engine_is_told_an_id_of_ours_and_the_tenants_salt() -> None:
    request = parse(request_id="theirs", cache_salt="theirs", priority=1, kv_transfer_params={}, new=1)
    told = json.loads(engine_body(request, "weights", "acme", id_="req-1"))
    assert told == {"model": "weights", "cache_salt": "acme", "input": "hi", "new": 1, "request_id": "resp_1"}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": ...}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["hi"]}, "input[0]"),
        ({"input": [{"role": "bot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"input": [{"type": "reasoning"}]}, "input[0].summary"),
        ({"input": said({"type": "x", "text": "y"})}, "input[0].content[0].type"),
        ({"input": said({"type": "output_text", "text": "y"}, role="assistant")}, "input[0].type"),
        ({"input": said("hi")}, "input[0].content[0]"),
        ({"input": said({"type": "input_text"})}, "input[0].content[0].text"),
        ({"input": said({"type": "input_file", "file_id": "f"})}, "input[0].content[0]"),
        ({"input": said({"type": "input_image", "image_url": URL})}, "input[0].content[0].image_url"),
        (
            {"input": said({"type": "input_text", "text": "", "image_url": {"url": URL}})},
            "input[0].content[0].image_url",
        ),
        ({"input": said({"type": "refusal", "audio_url": {"url": URL}})}, "input[0].content[0].audio_url"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "c"}}, "conversation"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"stream": 1}, "stream"),
        ({"stop": [""]}, "stop[0]"),
        ({"instructions": ["x"]}, "instructions"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": {"$ref": "#"}}]}, "tools[0].parameters"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": {"$ref": "#"}}}}, "text.format.schema"),
        ({"tool_choice": 3}, "tool_choice"),
        ({"metadata": 3}, "metadata"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(**change)
    assert refused.value.param == param
    assert param in refused.value.message


def test_a_conversation_passes_as_clients_send_it_back() -> None:
    parse(
        input=[
            *said(
                {"type": "input_text", "text": "x"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA"},
            ),
            {"type": "reasoning", "id": "r", "summary": []},
            {
                "type": "message",
                "id": "m",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "y"}],
            },
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "z"}]},
            {"role": "developer", "content": "see https://img.example"},
        ],
        tools=[{"type": "function", "name": "f", "parameters": {"image_url": {"url": URL}}}],
    )


_urls = st.sampled_from(
    [URL, "file:///etc/passwd", "ftp://img.example/", "HTTP://10.0.0.1", "http://img.example@h/"]
)
_part = st.builds(
    lambda name, url, plain, kind: {"type": kind, name: url if plain else {"url": url}},
    st.sampled_from(["image_url", "audio_url", "video_url", "file_url"]),
    _urls,
    st.booleans(),
    st.sampled_from(["input_image", "image_url", "video_url", "x"]),
)
_nested = st.recursive(
    _part, lambda inner: st.lists(inner, min_size=1, max_size=2) | st.fixed_dictionaries({"a": inner})
)


@given(_nested)
def test_no_engine_is_told_a_url_elsewhere_however_deep_it_lies(part: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(input=[{"role": "user", "content": [{"type": "input_text", "text": "x", "more": part}]}])
    assert refused.value.code == "invalid_url"
