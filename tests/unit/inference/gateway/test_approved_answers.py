"""What the gateway says of drawn requests, streams and errors of engines is what was approved: a few answers
are kept as text, of all a digest."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import ComputilityError
from inference.core.body import BodyLimits, Task, check_context, models_named, parse_request
from inference.core.engine_errors import error_from_engine, error_in_stream
from inference.core.sse import StreamMeter, UsageShown, without_comments
from inference.core.usage import find_usage, with_null_member, without_member
from tests.fixtures import approved

READ = 4
"""So many answers are kept as text."""
LOOP = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
FUNCTION = {"name": "f", "parameters": {"type": "object", "properties": {"x": {"$ref": "#/$defs/n"}}}}
CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be short"},
        {
            "role": "user",
            "name": "x",
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "image_url", "image_url": {"url": "https://a.example/i.png"}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
    ],
    "n": 2,
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": False},
    "max_tokens": 20,
    "max_completion_tokens": 30,
    "stop": ["a", "b"],
    "bad_words": ["c"],
    "tools": [{"type": "function", "function": {**FUNCTION, "parameters": LOOP}}],
    "tool_choice": "auto",
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
    "vllm_xargs": {"priority": 1, "kept": 2},
    "priority": 3,
}
COMPLETIONS: dict[str, Any] = {
    "model": "m",
    "prompt": ["a", "b"],
    "n": 3,
    "best_of": 3,
    "stream": False,
    "max_tokens": 5,
    "structured_outputs": {"grammar": "root ::= word\\nword ::= 'a'"},
}
EMBEDDINGS: dict[str, Any] = {"model": "m", "input": ["a", "b", "c"], "dimensions": 8}
TASKS: dict[Task, dict[str, Any]] = {"chat": CHAT, "completions": COMPLETIONS, "embeddings": EMBEDDINGS}
ODD: tuple[Any, ...] = (
    None, True, 0, 1, -1, 7, 1.5, "", "x", "https://b/x", [], [1], [""], ["a"] * 5, [[1, 2], [3]], {}, LOOP,
    {"type": "text"}, {"type": "x"}, {"type": "json_object"}, {"json": LOOP}, {"choice": []},
    {"grammar": "a ::="},
)  # fmt: skip
"""What may stand where something else should."""


def said(ask: Callable[[], Any]) -> str:
    try:
        return str(ask())
    except ComputilityError as error:
        return f"{type(error).__name__} {error.code} {error.param}: {error}"


def _changed(rng: random.Random, value: Any) -> Any:
    """The value with one part of it dropped, doubled or replaced, at any depth."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return rng.choice(ODD)
    key: Any = rng.choice(sorted(value)) if isinstance(value, dict) else rng.randrange(len(value))
    copied = value.copy()
    if rng.random() < 0.2:
        del copied[key]
    else:
        copied[key] = _changed(rng, value[key])
    return copied


def _request(rng: random.Random) -> str:
    """What becomes of a body, mostly with one thing wrong."""
    task: Task = rng.choice(("chat", "chat", "completions", "embeddings"))
    content = {
        key: value for key, value in TASKS[task].items() if key in ("model", "messages", "prompt", "input")
    }
    others = [key for key in TASKS[task] if key not in content and key != "tools"]
    content |= {key: TASKS[task][key] for key in rng.sample(others, rng.randrange(len(others) + 1))}
    if task == "chat" and rng.random() < 0.3:
        content["tools"] = (
            [{"type": "function", "function": FUNCTION}] if rng.random() < 0.3 else CHAT["tools"]
        )
    for _ in range(rng.choice((0, 1, 1, 2))):
        content = _changed(rng, content)
    raw = json.dumps(content).encode()
    if rng.random() < 0.05:
        raw = raw[: rng.randrange(len(raw))]
    few = [rng.random() < 0.1 for _ in range(3)]
    limits = BodyLimits(2 if few[0] else 128, 2 if few[1] else 2048, 20 if few[2] else 10_000, ("a.example",))

    def ask() -> object:
        request = parse_request(task, raw, limits)
        check_context(request, rng.choice((None, 4, 20, 30, 1000)))
        return request, request.input_field, request.sequences

    return f"{said(ask)} {models_named(raw)}"


def _usage(rng: random.Random, choices: int) -> str:
    usage: Any = {"prompt_tokens": rng.randrange(9), "completion_tokens": rng.randrange(9)}
    if rng.random() < 0.5:
        usage["prompt_tokens_details"] = rng.choice((None, {"cached_tokens": rng.randrange(9)}))
    place = [{"index": rng.randrange(choices), "delta": {"content": 'a "usage": {x}'}}]
    content: dict[str, Any] = {"model": "weights", "choices": rng.choice((place, place, [])), "usage": usage}
    if rng.random() < 0.3:
        content["usage"] = rng.choice((None, {}, {"prompt_tokens": -1}, {"completion_tokens": True}))
    if rng.random() < 0.1:
        del content["usage"]
    return json.dumps(content, separators=rng.choice(((",", ":"), (", ", ": "))))


def _stream(rng: random.Random) -> str:
    """What a client gets of a stream that comes in pieces, and what is counted."""
    per_prompt, prompts = rng.choice((1, 1, 2)), rng.choice((1, 1, 2))
    shown: UsageShown = rng.choice(("none", "final", "all"))
    rename = rng.choice((None, (b'"model":"weights"', b'"model":"tiny"')))
    meter = StreamMeter(shown, per_prompt, prompts, rename)
    events = [f"data: {_usage(rng, per_prompt * prompts)}\n\n" for _ in range(rng.randrange(6))]
    events += rng.choice(([], ["data: [DONE]\n\n"], ['data: {"error": {"code": 400}}\n\n'], [": ping\n\n"]))
    data, parts = "".join(events).encode(), []
    while data:
        size = rng.choice((1, 2, 40, 400))
        part, data = data[:size], data[size:]
        try:
            parts.append(meter.feed(part))
        except ComputilityError as error:
            parts.append(str(error).encode())
    comments = without_comments(b": a\n" * rng.randrange(3) + b"\n" + b"".join(parts))[0]
    flags = meter.finished, meter.told, meter.total_told, meter.error
    return f"{b''.join(parts)!r} {comments!r} {meter.counts} {flags}"


def _whole(rng: random.Random) -> str:
    """The usage in an answer, and the answer without it."""
    content = _usage(rng, 2).encode()
    found = find_usage(content)
    if found is None:
        return "none"
    others = without_member(content, found), with_null_member(content, found)
    return f"{found.counts.quantities()} {others}"


MESSAGES = (
    "", "no such thing", "This model's maximum context length is 9 tokens", "max_model_len is 9", 7, {"a": 1},
    "[{'type': 'x', 'loc': ('body', 'messages', 0, 'SomeParam', 'content'), 'msg': 'Input should be a', }]",
    "1 error: {'loc': 'stop', 'msg': \"Value error, too long\"}", "ChatParam at https://errors.pydantic.dev/x",
    "Traceback (most recent call last)", "x" * 9000,
)  # fmt: skip


def _engine_error(rng: random.Random) -> str:
    """What a client is told of an engine's error."""
    status = rng.choice((400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504))
    error = {
        "message": rng.choice(MESSAGES),
        "param": rng.choice((None, "input_tokens", "body.messages.1.content", "stop", 3)),
        "code": rng.choice((status, status, None, "x", True)),
    }
    body = json.dumps(rng.choice((error, {"error": error}, {"error": "x"}, [error]))).encode()
    body = body if rng.random() < 0.9 else body[:9]
    healthy, event = rng.random() < 0.5, rng.choice((body, body, None))
    errors = error_from_engine(status, body, "prompt"), error_in_stream(event, "messages", healthy)
    return " / ".join(f"{type(one).__name__} {one.code} {one.param}: {one}" for one in errors)


RULES: dict[str, tuple[Callable[[random.Random], str], int]] = {
    "requests": (_request, 3000),
    "streams": (_stream, 600),
    "whole answers": (_whole, 600),
    "errors of engines": (_engine_error, 1500),
}


@pytest.mark.parametrize("name", RULES)
def test_the_gateway_answers_as_approved(name: str) -> None:
    ask, draws = RULES[name]
    answers = [ask(random.Random(seed)) for seed in range(draws)]
    lines = [*answers[:READ], f"all: {approved.digest(chr(10).join(answers))}"]
    approved.check(Path(__file__).with_name("approved_answers.txt"), {name: "\n".join(lines)})
