"""What the gateway reads of requests and of engines' answers is what was approved, also after accidents."""

import json
import random
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from common.errors import ComputilityError
from inference.core.body import (
    BodyLimits,
    Task,
    check_context,
    engine_body,
    models_named,
    parse_request,
    prefill_body,
)
from inference.core.engine_errors import (
    error_from_engine,
    error_in_stream,
    is_retryable,
    may_be_the_request,
    status_in_stream,
)
from inference.core.sse import EventSplitter, StreamMeter, UsageShown, without_comments
from inference.core.two_legs import giving_up, told_cache
from inference.core.usage import TokenCounts, find_usage, with_cached, with_null_member, without_member
from tests.fixtures import approving as approved
from tests.unit.inference.approved.accidents import each_changed

LIMITS = BodyLimits(sequences=6, inputs=3, values=60, media_hosts=("img.example",))
SCHEMA = {"type": "object", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"enum": ["x"]}}, "p": [{"$ref": "#"}]}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PARTS = [
    {"type": "text", "text": "look"},
    {"type": "image_url", "image_url": {"url": "https://img.example/a.png"}},
    {"type": "refusal", "refusal": "no"},
]
BODIES: tuple[tuple[Task, dict[str, Any]], ...] = (
    (
        "chat",
        {
            "model": "tiny",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": PARTS},
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": "1"},
            ],
        },
    ),
    (
        "chat",
        {
            "messages": [{"role": "user", "content": "hi", "name": "ann"}],
            "model": "tiny",
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True, "x": 1},
            "max_tokens": 5,
            "max_completion_tokens": 70,
            "n": 2,
            "stop": ["a", "b"],
            "user": "ann",
            "prompt_cache_key": "talk",
            "vllm_xargs": {"priority": 1, "kept": 2, "cache_salt": "x"},
            "priority": 3,
            "logprobs": True,
        },
    ),
    (
        "chat",
        {
            "model": "tiny",
            "messages": [{"role": "developer", "content": ["plain", {"type": "thinking", "thinking": "hm"}]}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
            "tool_choice": "auto",
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
        },
    ),
    (
        "completions",
        {"model": "tiny", "prompt": ["a", "b"], "n": 2, "best_of": 3, "echo": True, "bad_words": ["z"]},
    ),
    (
        "completions",
        {"model": "tiny", "prompt": [1, 2], "max_tokens": 9, "structured_outputs": {"json": SCHEMA}},
    ),
    (
        "completions",
        {"model": "tiny", "prompt": "a", "structured_outputs": {"choice": ["a", "b"]}, "stop": "x"},
    ),
    (
        "completions",
        {"model": "tiny", "prompt": "a", "structured_outputs": {"grammar": "root ::= a\na ::= 'x'"}},
    ),
    (
        "completions",
        {"model": "tiny", "prompt": "a", "structured_outputs": {"regex": "a+"}, "prompt_logprobs": 1},
    ),
    ("embeddings", {"model": "tiny", "input": ["a", [1, 2]], "encoding_format": "base64", "user": "u"}),
)
KINDS = (
    *("audio_embeds", "audio_url", "file", "image_embeds", "image_pil", "image_url", "input_audio"),
    *("prompt_embeds", "tool_reference", "video_embeds", "video_url", "text", "refusal", "thinking", "other"),
)
URLS = (
    *("data:,x", "DATA:,x", "https://img.example", "HTTPS://IMG.example/a?b", "http://img.example:80/x"),
    *(
        "https://img.example@evil/",
        "https://evil/img.example",
        "ftp://img.example/",
        "",
        "https://img.example\\x",
    ),
)
REFERENCES = (
    *(
        "#",
        "#/$defs/a",
        "#/$defs/none",
        "#/p/0",
        "#/p/1",
        "#/p/x",
        "#/a~1b",
        "#/~0c",
        "#anchor",
        "other.json",
    ),
    *("#/$defs/round", "#/" + "long" * 40),
)


def _wishes() -> Iterator[tuple[Task, Any]]:
    """Bodies with accidents, and what differs by a word only."""
    for task, body in BODIES:
        yield from ((task, one) for one in each_changed(body))
    for role, kind in product(("system", "developer", "user", "tool", "assistant", "x"), KINDS):
        for part in ({"type": kind}, {"type": kind, kind: "x"}, {kind: "x"}, {kind: {"url": "https://no/"}}):
            yield "chat", {"model": "m", "messages": [{"role": role, "content": [part]}]}
        yield "chat", {"model": "m", "messages": [{"role": role}]}
    for url in URLS:
        message = {"role": "user", "content": [{"type": "video_url", "video_url": url}]}
        yield "chat", {"model": "m", "messages": [message]}
    defs = {
        "a": {"$ref": "#/$defs/b"},
        "b": {},
        "round": {"$ref": "#/$defs/back"},
        "back": {"$ref": "#/$defs/round"},
    }
    for at, hidden in product(REFERENCES, ("properties", "const", "default", "enum", "examples")):
        schema = {"$defs": defs, "p": [{}], "a/b": {}, "~c": {}, hidden: {"x": {"$ref": at}}}
        yield "completions", {"model": "m", "prompt": "a", "structured_outputs": {"json": schema}}
    for kind in ("text", "json_object", "json_schema", "structural_tag", "xml"):
        yield "completions", {"model": "m", "prompt": "a", "response_format": {"type": kind}}
        yield "completions", {"model": "m", "prompt": "a", "structured_outputs": {kind: "x"}}
    for name, value in product(
        ("use_beam_search", "encoding_format", "echo", "prompt_embeds"), (True, "float", "no")
    ):
        for task in ("completions", "embeddings"):
            yield task, {"model": "m", "prompt": "a", "input": "a", name: value}
    for names in product((None, 0, 3), repeat=3):
        bounds = dict(zip(("n", "best_of", "max_tokens"), names, strict=True))
        yield "completions", {"model": "m", "prompt": ["a", "b"], **bounds}
    for count in (1, 16, 17, 33):
        yield "embeddings", {"model": "m", "input": ["a"] * count}


def _refused(error: ComputilityError) -> str:
    return f"{type(error).__name__} {error.code} {error.param}: {error}"


def _read(task: Task, raw: bytes, limits: BodyLimits) -> str:
    """What is understood of a body, and what engines are sent."""
    named = f"named {models_named(raw)}"
    try:
        request = parse_request(task, raw, limits)
    except ComputilityError as error:
        return f"{named} {_refused(error)}"
    told: list[Any] = [request, request.prompt_tokens_about, bytes(request.prompt), request.input_field]
    told += [request.sequences, engine_body(request, "weights", "acme"), prefill_body(request, "w", "acme")]
    told.append(engine_body(request, "weights", "acme", {"remote_host": "h"}))
    for context in (None, 5, 69):
        try:
            check_context(request, context)
        except ComputilityError as error:
            told.append(_refused(error))
    return f"{named} {approved.told(told)}"


def test_requests_are_read_as_approved() -> None:
    answers = []
    for at, (task, body) in enumerate(_wishes()):
        roomy = BodyLimits(8, 17, 10_000, ("img.example", "other.example"))
        limits = LIMITS if at % 3 else roomy
        answers.append(_read(task, json.dumps(body).encode(), limits))
    _approve("bodies", answers, 6)


RAW = (
    b"",
    b"{",
    b"\xff",
    b'"model"',
    b'{"model":"a\\"model\\":","prompt":"x"}',
    b'{"prompt":"x","model" : "t\\u00e9", "model":"u"}',
    b'{"model":"a","prompt":"\\"model\\":\\"b\\""}',
    b'{"model":"\\ud800","prompt":"x"}',
    b'{"model":"\\x","prompt":"x"}',
    b'{"x":' * 70 + b"1" + b"}" * 70,
    b'{"model":"a","prompt":"x","y":' + b"[" * 63 + b"]" * 63 + b"}",
    b'{"model":"a","prompt":"x","y":' + b"[" * 64 + b"]" * 64 + b"}",
    b'{"model":"a","prompt":["' + b'","'.join([b"x"] * 99) + b'"]}',
    b'{"model":"a","prompt":"' + b",[{" * 50 + b'"}',
    b'{"model":"a","prompt":"x\\\\",' + b'"y":[' + b"1," * 80 + b"1]}",
    b'{"model":"a","prompt":"x","stop":"' + b"long" * 30 + b'"}',
    b'{"model":"' + b"long" * 30 + b'","prompt":7,"user":"' + b"u" * 300 + b'"}',
    b'{"a":' + b'{"model":1},"b":' * 20 + b'{"model":"late"}}',
)


def test_raw_bodies_are_read_as_approved() -> None:
    _approve("raw bodies", [_read("completions", raw, BodyLimits(values=100)) for raw in RAW], len(RAW))


USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}


def _event(rng: random.Random, at: int) -> bytes:
    """One part of an engine's stream."""
    usage = rng.choice((USAGE, {**USAGE, "completion_tokens": at}, {"prompt_tokens": at}, None, "odd"))
    choice: dict[str, Any] = {"index": rng.randrange(4), "text": rng.choice(("word", '"usage":{', "é"))}
    if rng.random() < 0.2:
        choice = {"text": "x", "index": rng.choice((1, "2", None))}
    content: dict[str, Any] = {
        "id": "cmpl-1",
        "model": "weights",
        "choices": rng.choice(([choice], [choice], [], None)),
    }
    if rng.random() < 0.8:
        content["usage"] = usage
    if rng.random() < 0.3:
        content = dict(reversed(content.items()))
    separators = rng.choice(((",", ":"), (", ", ": ")))
    return b"data: " + json.dumps(content, separators=separators).encode() + b"\n\n"


def _stream(rng: random.Random) -> str:
    """What a client is sent of an engine's stream, and what is counted, however it was cut."""
    events = [_event(rng, at) for at in range(rng.randrange(6))]
    others = (
        b": ping\n\n",
        b"data: [DONE]\n\n",
        b'data: {"error": {"code": 400, "message": "no"}}\n\n',
        b"data: x",
    )
    for _ in range(rng.choice((0, 1, 2))):
        events.insert(rng.randrange(len(events) + 1), rng.choice(others))
    stream = b"".join(events)
    shown: UsageShown = rng.choice(("none", "final", "all"))
    rename = rng.choice((None, (b'"model":"weights"', b'"model":"tiny"')))
    meter = StreamMeter(shown, rng.choice((1, 1, 2)), rng.choice((1, 1, 2)), rename)
    meter.cached = rng.choice((None, None, 2, 50))
    splitter, told = EventSplitter(), [str(without_comments(stream))]
    while stream:
        size = rng.choice((1, 7, 50, 400))
        part, stream = stream[:size], stream[size:]
        told.append(f"{meter.feed(part)!r} {meter.counts} {meter.told} {meter.total_told} {meter.finished}")
        told.append(str(splitter.feed(part)))
    return "\n".join([*told, str(meter.error)])


def _usage(rng: random.Random) -> str:
    """The usage member of an answer, and the answer with other usage."""
    answers = list(each_changed({"choices": [], "usage": USAGE, "kv": {"usage": {"prompt_tokens": 2}}}))
    content = json.dumps(rng.choice(answers)).encode()
    content = content.replace(b'"usage": ', rng.choice((b'"usage": ', b'"usage":', b'\\"usage": ')))
    content = content[: rng.choice((len(content), len(content), 40))]
    member = find_usage(content)
    if member is None:
        return f"none in {content!r}"
    changed = [without_member(content, member), with_null_member(content, member)]
    changed += [with_cached(content, member, cached) for cached in (0, 3, 5, 90)]
    return f"{member} {member.counts.quantities()} {member.counts.with_cached(1)} {changed}"


PLACE = {
    "do_remote_prefill": True,
    "remote_engine_id": "e",
    "remote_request_id": "r",
    "remote_host": "h",
    "remote_port": 1,
}
MESSAGES = (
    "plain words",
    "This model's maximum context length is 10 tokens",
    "max_tokens is more than max_model_len",
    "{'loc': ('body', 'messages', 0, 'ChatParam', 'content'), 'msg': 'Input should be a text', 'x': 1}",
    "{'loc': 'body.stop', 'msg': \"Value error, is wrong\"}",
    "{'loc': ('body', 'n'), 'msg': ' ', 'url': 'https://errors.pydantic.dev/2/v/x'}",
    "SamplingParams went wrong",
    "Traceback (most recent call last)",
    "long " * 200,
    ["a", "list"],
    "",
    None,
)
PARAMS = (
    None,
    "input_tokens",
    "body.messages.3.Union[str].text",
    "stop.0",
    7,
    "body",
    "function-wrap",
    "a" * 99,
    "tools.0.list.int.²",
)
STATUSES = (0, 200, 400, 401, 403, 404, 408, 422, 429, 500, 501, 502, 503, 504, True, "500", None)


def _errors() -> Iterator[str]:
    for message, param, status in product(MESSAGES, PARAMS, (400, 404, 422, 500)):
        body = json.dumps({"error": {"message": message, "param": param, "code": status}}).encode()
        yield _refused(error_from_engine(status, body, "messages"))
    for code, healthy in product(STATUSES, (True, False)):
        event = json.dumps({"message": "words", "code": code}).encode()
        yield f"{status_in_stream(event)} {_refused(error_in_stream(event, 'prompt', healthy))}"
        if isinstance(code, int):
            yield f"{code} {is_retryable(code)} {may_be_the_request(code)}"
            yield _refused(error_from_engine(code, b"[" * 2000 + b"{", "prompt"))
    for other in (b"", b"[]", b"{}", b"null", b'{"error": "words"}', b'{"error": []}', b"\xff", None):
        yield f"{status_in_stream(other)} {_refused(error_in_stream(other, 'prompt', True))}"
    for answer in each_changed({"kv_transfer_params": PLACE}):
        yield str(told_cache(json.dumps(answer).encode()))
    yield str(
        [
            told_cache(None),
            told_cache(b""),
            told_cache(b"{"),
            giving_up(PLACE),
            TokenCounts(1, 0, 2).quantities(),
        ]
    )


def test_errors_of_engines_are_told_as_approved() -> None:
    _approve("errors", list(_errors()), 12)


RULES: dict[str, tuple[Callable[[random.Random], str], int, int]] = {
    "streams": (_stream, 600, 1),
    "usage": (_usage, 600, 3),
}


@pytest.mark.parametrize("name", RULES)
def test_answers_of_engines_are_read_as_approved(name: str) -> None:
    ask, draws, read = RULES[name]
    _approve(name, [ask(random.Random(seed)) for seed in range(draws)], read)


def _approve(name: str, answers: list[str], read: int) -> None:
    approved.check(Path(__file__).with_name("requests.txt"), {name: approved.kept(answers, read)})
