"""What a chat may say, and how its mistakes are named: by a path, in plain words."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from inference.core.body import BodyLimits, parse_request
from inference.core.engine_errors import error_from_engine
from inference.core.messages import MAX_MESSAGES, check_messages, odd_role

USER = {"role": "user", "content": "hi"}
CALL = {"id": "call-1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
OF_PYDANTIC = (
    "2 validation errors:\n  {'type': 'string_type', 'loc': 'body.messages.0."
    "ChatCompletionDeveloperMessageParam.content', 'msg': 'Input should be a valid string', 'input': None}"
)
INNER_WORDS = re.compile(r"pydantic|[A-Z]\w+Param|Iterator|Union\[")


def refusal(**body: Any) -> InvalidInput:
    raw = json.dumps({"model": "tiny", "messages": [USER], **body}).encode()
    with pytest.raises(InvalidInput) as refused:
        parse_request("chat", raw)
    return refused.value


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({}, "messages[0].role"),
        ({"role": ""}, "messages[0].role"),
        ({"role": 5, "content": "hi"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "system", "content": None}, "messages[0].content"),
        ({"role": "tool", "content": None, "tool_call_id": "x"}, "messages[0].content"),
        ({"role": "user", "content": []}, "messages[0].content"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        ({"role": "user", "content": {"type": "text"}}, "messages[0].content"),
        ({"role": "user", "content": "hi", "name": 5}, "messages[0].name"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, "messages[0].content[0]"),
        ({"role": "user", "content": ["a", {"type": "input_text", "text": "a"}]}, "messages[0].content[1]"),
        ({"role": "user", "content": [{"type": ["text"], "text": "a"}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"text": "a"}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [5]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": 5}]}, "messages[0].content[0]"),
        ({"role": "assistant", "content": 5}, "messages[0].content"),
        ({"role": "assistant", "tool_calls": "x"}, "messages[0].tool_calls"),
        ({"role": "assistant", "tool_calls": [5]}, "messages[0].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{**CALL, "id": 5}]}, "messages[0].tool_calls[0].id"),
        ({"role": "assistant", "tool_calls": [{"id": "a"}]}, "messages[0].tool_calls[0].function"),
        (
            {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": 1}}]},
            "messages[0].tool_calls[0].function.name",
        ),
        (
            {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_is_wrong_in_a_message_is_named_by_its_path(message: dict[str, Any], param: str) -> None:
    error = refusal(messages=[message])
    assert error.param == param
    assert param in error.message
    assert not INNER_WORDS.search(error.message)


@pytest.mark.parametrize(
    "message",
    [
        USER,
        {"role": "user", "content": ["plain", {"type": "text", "text": ""}], "name": None},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
        {"role": "user", "content": [{"image_url": "https://x/y.png"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "audio": None},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": None}]},
        {"role": "tool", "content": "42", "tool_call_id": "call-1"},
        {"role": "narrator", "content": "a role that only some models know"},
    ],
)
def test_what_clients_send_passes(message: dict[str, Any]) -> None:
    check_messages({"messages": [message]})


def test_a_chat_has_a_bounded_number_of_messages() -> None:
    error = refusal(messages=[USER] * (MAX_MESSAGES + 1))
    assert error.param == "messages"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", 5]}, "stop[1]"),
        ({"bad_words": "a"}, "bad_words"),
        ({"bad_words": [""]}, "bad_words[0]"),
        ({"tools": {}}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}]},
            "tools[0].function.parameters",
        ),
        ({"tool_choice": 5}, "tool_choice"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": []}}},
            "response_format.json_schema.schema",
        ),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
        ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"grammar": "root ::= "}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"grammar": 'root ::= a\na ::=\nb ::= "x"'}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"json": {"$ref": "#/$defs/a"}}}, "structured_outputs.json"),
    ],
)
def test_wrong_options_are_named(body: dict[str, Any], param: str) -> None:
    error = refusal(**body)
    assert error.param == param
    assert param in error.message


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"properties": {"x": {"$ref": "#/properties/x"}}},
        {"items": {"$ref": "#/no/where"}},
    ],
)
def test_a_schema_whose_references_lead_nowhere_is_refused(schema: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert refusal(response_format=form).param == "response_format.json_schema.schema"


def test_sound_options_pass() -> None:
    tree = {"$defs": {"t": {"properties": {"in": {"$ref": "#/$defs/t"}}}}, "$ref": "#/$defs/t"}
    odd: dict[str, Any] = {
        "properties": {"$ref": {"type": "string"}},
        "default": {"$ref": "#/not/a/reference"},
    }
    for schema in (tree, odd, {"$ref": "https://example.org/x"}, {"items": {"$ref": "#anchor"}}, {}):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        body: dict[str, Any] = {"model": "m", "messages": [USER], "response_format": form, "stop": ["a"] * 4}
        assert parse_request("chat", json.dumps(body).encode())
    for grammar in ('root ::=\n  "a ::= " rest\nrest ::= "b"', "start: WORD", "((("):
        body = {"model": "m", "messages": [USER], "stop": None, "structured_outputs": {"grammar": grammar}}
        assert parse_request("chat", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model": "m", "messages": [{"role": "user", "content": "\\udc97"}]}', "messages[0].content"),
        (b'{"model": "m", "messages": [], "stop": ["a", "end \\udc97"]}', "stop[1]"),
        (b'{"model": "m", "bad_words": ["\\ud800"]}', "bad_words[0]"),
        (b'{"model": "m", "x": [{"y": {"\\ud800": 1}}]}', "x[0].y"),
        (b'{"\\ud800": 1}', None),
    ],
)
def test_half_a_character_is_refused_anywhere_with_the_field_named(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidInput, match="half of a surrogate pair") as refused:
        parse_request("chat", body)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("message", "param", "expected"),
    [
        (
            OF_PYDANTIC,
            "body.messages.0.ChatCompletionDeveloperMessageParam.content",
            ("messages[0].content", "messages[0].content: must be a valid string"),
        ),
        ("TextEncodeInput must be Union[TextInputSequence, Tuple[InputSequence]]", None, (None, "form")),
        (
            "1 validation error for ValidatorIterator\n0.function\n https://errors.pydantic.dev/2/v",
            None,
            (None, "form"),
        ),
        ("Value error, temperature must be non-negative", "temperature", ("temperature", "non-negative")),
    ],
)
def test_an_engines_words_are_told_without_its_inner_names(
    message: str, param: str | None, expected: tuple[str | None, str]
) -> None:
    answer = json.dumps({"error": {"message": message, "param": param, "code": 400}}).encode()
    error = error_from_engine(400, answer, "messages")
    assert isinstance(error, InvalidInput)
    assert error.param == expected[0]
    assert expected[1] in error.message
    assert not INNER_WORDS.search(error.message)


@pytest.mark.parametrize(
    ("task", "body", "param"),
    [
        ("chat", {"n": 129}, "n"),
        ("completions", {"prompt": ["a"] * 129}, "prompt"),
        ("completions", {"prompt": ["a"] * 65, "n": 2}, "prompt"),
        ("completions", {"prompt": ["a"], "best_of": 129}, "n"),
        ("embeddings", {"input": ["a"] * 2049}, "input"),
    ],
)
def test_one_request_asks_for_a_bounded_number_of_answers(
    task: Any, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidInput, match="send several requests") as refused:
        parse_request(task, json.dumps({"model": "m", "messages": [USER], **body}).encode(), BodyLimits())
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("roles", "param"),
    [
        (["system", "wizard", "witch"], "messages[1].role"),
        (["system", "user", "assistant", "tool", "developer", "function"], None),
    ],
)
def test_a_role_that_a_template_raises_for_is_named(roles: list[str], param: str | None) -> None:
    said = [{"role": role, "content": "x", "tool_call_id": "t"} for role in roles]
    request = parse_request("chat", json.dumps({"model": "m", "messages": said, "top_p": 0.5}).encode())
    answer = json.dumps({"error": {"message": "Unexpected role", "param": None, "code": 400}}).encode()
    error = error_from_engine(400, answer, request.input_field, request.prompt)
    assert isinstance(error, InvalidInput)
    assert error.param == param


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["messages", "role", "x"]), inner, max_size=3)
        ),
    ).map(lambda value: json.dumps(value).encode()[:-1])
)
def test_whatever_a_prompt_is_made_of_can_be_looked_at(prompt: bytes) -> None:
    assert odd_role(prompt) == "" or odd_role(prompt).startswith("messages[")
