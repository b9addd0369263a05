"""Which bodies are refused and how the field is named; what reaches the engine of those that pass."""

import json
import time
from typing import Any

import pytest

from common.errors import ContextExceeded, InvalidInput
from inference.core.body import (
    SESSION_CHARACTERS,
    BodyLimits,
    Task,
    check_context,
    engine_body,
    parse_request,
)
from inference.core.engine_errors import error_from_engine, is_retryable

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


def parse(task: Task = "chat", **change: Any) -> Any:
    return parse_request(task, json.dumps({**CHAT, **change}).encode())


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ["tiny"]}, "model"),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {"role": "user"}}, "messages"),
        ({"messages": [{"role": "user", "content": "hi"}, "x"]}, "messages[1]"),
        ({"max_tokens": "12"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"n": 0}, "n"),
        ({"n": "2"}, "n"),
    ],
)
def test_wrong_fields_are_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(**change)
    assert error.value.param == param
    assert error.value.message.startswith((param, f"missing required parameter: {param}"))


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "line 1, column 1"),
        (b'{"model": "tiny",\n "n": }', "line 2, column 7"),
        (b'{"n": NaN}', "NaN"),
        (b'{"n": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b'"text"', "must be a JSON object"),
        (b'{"model": "\xff"}', "not UTF-8 at byte 12"),
    ],
)
def test_malformed_json_names_the_position(raw: bytes, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        parse_request("chat", raw)


@pytest.mark.parametrize(
    ("prompt", "prompts"), [("one", 1), (["one", "two"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2)]
)
def test_prompts_are_counted(prompt: Any, prompts: int) -> None:
    assert parse("completions", prompt=prompt).prompts == prompts


@pytest.mark.parametrize("prompt", [None, [], {}, 3, ["a", 1.5], [True]])
def test_wrong_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(InvalidInput, match="prompt"):
        parse("completions", prompt=prompt)


def test_a_number_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidInput, match="too large for a number"):
        parse_request("chat", b'{"model":"m","messages":[{}],"temperature":1e999}')


def test_the_engine_is_asked_for_running_usage_and_gets_everything_else_as_it_was() -> None:
    extra: dict[str, Any] = {"temperature": 0.25, "unknown": {"a": [1, None]}, "user": "é\U0001f600"}
    body = json.loads(engine_body(parse(stream=True, **extra), "backend", "acme"))
    assert body.pop("stream_options") == {"include_usage": True, "continuous_usage_stats": True}
    assert body == {**CHAT, **extra, "stream": True, "model": "backend", "cache_salt": "acme"}
    assert "stream_options" not in json.loads(engine_body(parse(), "tiny", "acme"))


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (None, "none"),
        ({}, "none"),
        ({"continuous_usage_stats": True}, "none"),
        ({"include_usage": True}, "final"),
        ({"include_usage": True, "continuous_usage_stats": True}, "all"),
    ],
)
def test_usage_is_shown_as_asked(options: Any, shown: str) -> None:
    assert parse(stream=True, stream_options=options).usage_shown == shown


def test_more_new_tokens_than_the_context_holds_are_refused() -> None:
    check_context(parse(max_tokens=2048), 2048)
    check_context(parse(max_tokens=9999), None)
    with pytest.raises(ContextExceeded, match="holds 2048 tokens") as error:
        check_context(parse(max_completion_tokens=2049), 2048)
    assert error.value.param == "max_completion_tokens"


@pytest.mark.parametrize(
    ("message", "param", "expected"),
    [
        (
            "This model's maximum context length is 9 tokens.",
            "input_tokens",
            ("context_length_exceeded", "messages"),
        ),
        (
            "max_tokens=9 cannot be greater than max_model_len=8.",
            "max_tokens",
            ("context_length_exceeded", "max_tokens"),
        ),
        ("temperature must be non-negative", "temperature", ("invalid_value", "temperature")),
        ("1 validation error:\n {'msg': 'Field required', 'x': 1}", "body.tools", ("invalid_value", "tools")),
        ("n must be 1 when using greedy sampling", None, ("invalid_value", "n")),
        ("min_tokens must be less than max_tokens=4", None, ("invalid_value", "min_tokens")),
        ("top_k must be 0 (disable), or at least 1", "", ("invalid_value", "top_k")),
        ("add_x and max_y are not compatible", None, ("invalid_value", "add_x")),
        ("seed must not be read before this", "top_p", ("invalid_value", "top_p")),
        ("Token ids must be in the vocabulary", None, ("invalid_value", None)),
        ("unknown role", None, ("invalid_value", None)),
    ],
)
def test_errors_of_engines_are_told_in_openai_terms(
    message: str, param: str | None, expected: tuple[str, str | None]
) -> None:
    body = json.dumps({"error": {"message": message, "type": "BadRequestError", "param": param, "code": 400}})
    error = error_from_engine(400, body.encode(), "messages")
    assert (error.code, error.param) == expected
    if param == "body.tools":
        assert error.message == "tools: Field required"


def test_an_answer_that_is_no_json_still_makes_an_error() -> None:
    assert "status 418" in error_from_engine(418, b"<html>", "prompt").message


@pytest.mark.parametrize(
    ("status", "again"), [(400, False), (404, True), (429, True), (500, True), (503, True)]
)
def test_only_what_another_replica_may_do_better_is_tried_again(status: int, again: bool) -> None:
    assert is_retryable(status) is again


def test_a_string_without_end_is_looked_at_once() -> None:
    """Looking for its end from each of its quotes would take minutes."""
    raw = b'["' + b'\\",' * 300_000
    began = time.process_time()
    with pytest.raises(InvalidInput, match="not JSON"):
        parse_request("chat", raw, BodyLimits(values=1000))
    assert time.process_time() - began < 5


def test_a_grammar_may_be_of_a_form_that_is_not_known_here() -> None:
    assert json.loads(parse(structured_outputs={"grammar": "start: NUMBER"}).rest)["structured_outputs"] == {
        "grammar": "start: NUMBER"
    }


def test_a_sessions_name_of_any_length_costs_little_to_tell_apart() -> None:
    """It is hashed for each choice of a replica, and a body may be one long name."""
    assert len(parse(user="x" * 30_000).session) == SESSION_CHARACTERS
    assert parse(user="ann").session == "ann"
    assert json.loads(engine_body(parse(user="x" * 3000), "tiny", "acme"))["user"] == "x" * 3000
