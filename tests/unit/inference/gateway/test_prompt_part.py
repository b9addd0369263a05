"""Which part of a request is its prompt, and which fields never reach an engine."""

import json
from typing import Any

import pytest

from inference.core.body import InferenceRequest, Task, engine_body, parse_request

MESSAGES = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]
INPUTS: dict[Task, dict[str, Any]] = {
    "chat": {"messages": MESSAGES},
    "completions": {"prompt": "once upon"},
    "embeddings": {"input": ["a", "b"]},
}


def parse(task: Task = "chat", **more: Any) -> InferenceRequest:
    content = {"temperature": 0.5, "model": "m", **INPUTS[task], "user": "u", **more}
    return parse_request(task, json.dumps(content).encode())


def prompt_of(request: InferenceRequest) -> Any:
    return json.loads(bytes(request.prompt) + b"}")


@pytest.mark.parametrize("task", list(INPUTS))
def test_the_prompt_is_what_is_to_be_read_and_nothing_else(task: Task) -> None:
    request = parse(task, stop=["x"], max_tokens=3)
    assert prompt_of(request) == INPUTS[task]
    assert request.input_field in prompt_of(request)
    told = json.loads(engine_body(request, "weights", "acme"))
    assert (told["stop"], told["max_tokens"], told["temperature"]) == (["x"], 3, 0.5)
    assert told["model"] == "weights"
    assert told.get("cache_salt") == (None if task == "embeddings" else "acme")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chat_template", "{{ messages }}"),
        ("chat_template_kwargs", {"enable_thinking": False}),
        ("reasoning_effort", "low"),
        ("documents", [{"title": "t", "text": "x"}]),
        ("tools", TOOLS),
    ],
)
def test_what_a_template_makes_of_a_request_stands_before_its_messages(name: str, value: Any) -> None:
    request = parse(**{name: value})
    assert list(prompt_of(request).items()) == [(name, value), ("messages", MESSAGES)]
    assert json.loads(engine_body(request, "weights", "acme"))[name] == value


def test_a_talk_that_goes_on_begins_like_the_talk_before() -> None:
    said = [*MESSAGES, {"role": "assistant", "content": "yes"}]
    before, after = parse(tools=TOOLS, seed=1), parse(seed=2, messages=said, tools=TOOLS)
    start = bytes(before.prompt).removesuffix(b"]")
    assert bytes(after.prompt).startswith(start)
    assert start.endswith(b'"content":"hi"}')


@pytest.mark.parametrize(
    "name", ["kv_transfer_params", "ec_transfer_params", "priority", "cache_salt", "request_id"]
)
def test_what_reaches_across_tenants_is_dropped_wherever_it_stands(name: str) -> None:
    given: dict[str, Any] = {name: "theirs", "vllm_xargs": {name: "theirs", "kept": 1}}
    request = parse(**given)
    told = json.loads(engine_body(request, "weights", "acme"))
    assert told.pop("cache_salt") == "acme"
    assert name not in told
    assert told["vllm_xargs"] == {"kept": 1}


@pytest.mark.parametrize(
    ("given", "session"),
    [
        ({"prompt_cache_key": "k", "user": "u"}, "k"),
        ({"prompt_cache_key": "", "user": "u"}, "u"),
        ({"prompt_cache_key": "k", "user": None}, "k"),
        ({"user": None}, ""),
    ],
)
def test_a_session_is_named_by_its_cache_key_or_else_by_its_user(given: dict[str, Any], session: str) -> None:
    assert parse(**given).session == session


@pytest.mark.parametrize(("texts", "answers"), [(1, 1), (16, 1), (17, 2), (32, 2), (33, 3)])
def test_sixteen_texts_to_embed_count_as_one_answer(texts: int, answers: int) -> None:
    assert parse("embeddings", input=["a"] * texts).sequences == answers


def test_answers_are_choices_times_prompts() -> None:
    request = parse("completions", prompt=["a", "b", "c"], n=2)
    assert (request.choices_per_prompt, request.prompts, request.sequences) == (2, 3, 6)
    assert (parse(n=3).sequences, parse().sequences) == (3, 1)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (None, {"include_usage": True, "continuous_usage_stats": True}),
        ({"include_usage": False}, {"include_usage": True, "continuous_usage_stats": True}),
        ({"x": 1}, {"x": 1, "include_usage": True, "continuous_usage_stats": True}),
    ],
)
def test_engines_tell_the_usage_of_a_stream_as_it_goes(asked: Any, told: dict[str, Any]) -> None:
    request = parse(stream=True, stream_options=asked)
    assert request.usage_shown == "none"
    assert json.loads(engine_body(request, "weights", "acme"))["stream_options"] == told


def test_without_a_stream_no_running_usage_is_asked_for() -> None:
    assert "stream_options" not in json.loads(engine_body(parse(), "weights", "acme"))


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, "none"),
        ({"continuous_usage_stats": True}, "none"),
        ({"include_usage": True}, "final"),
        ({"include_usage": True, "continuous_usage_stats": False}, "final"),
        ({"include_usage": True, "continuous_usage_stats": True}, "all"),
    ],
)
def test_usage_is_shown_as_the_client_asks(options: dict[str, bool], shown: str) -> None:
    assert parse(stream=True, stream_options=options).usage_shown == shown
