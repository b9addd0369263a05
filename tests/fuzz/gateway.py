"""What clients send to the gateway, and what engines answer it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from common.errors import ContextExceeded, EngineFailed, InvalidInput, TooLarge
from common.strict_json import parse_json
from inference.core.body import (
    InferenceRequest,
    Task,
    check_context,
    engine_body,
    models_named,
    parse_request,
)
from inference.core.engine_errors import error_from_engine, error_in_stream, status_in_stream
from inference.core.sse import EventSplitter, StreamMeter, UsageShown, without_comments
from inference.core.usage import TokenCounts, find_usage, with_null_member, without_member
from tests.fuzz.target import Target, answer, can_be_sent, cut, dice

_CONTEXT_TOKENS = 4096
_MOST_MESSAGE_CHARACTERS = 2000
_OF_THE_GATEWAY = {"kv_transfer_params", "ec_transfer_params", "priority", "request_id"}

_CHAT = {
    "model": "tiny",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {}}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "4"},
    ],
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": False},
    "max_tokens": 16,
    "max_completion_tokens": 16,
    "n": 2,
    "stop": ["\n"],
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"$ref": "#/$defs/a", "$defs": {}}}}
    ],
    "tool_choice": "auto",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "s", "schema": {"items": {"$ref": "#"}, "enum": [1]}},
    },
    "vllm_xargs": {"priority": 1, "other": "x"},
    "cache_salt": "mine",
}
_CHOICES = {
    "model": "tiny",
    "prompt": ["a", "b"],
    "max_tokens": 4,
    "best_of": 2,
    "bad_words": ["x"],
    "structured_outputs": {"grammar": 'root ::= "a" | b\nb ::= "c"'},
}
_EMBEDDINGS = {"model": "tiny", "input": ["a", "b"], "encoding_format": "float", "dimensions": 8}
_BODY_WORDS = (
    *_CHAT,
    *_CHOICES,
    *_EMBEDDINGS,
    *(
        "role",
        "content",
        "type",
        "text",
        "refusal",
        "thinking",
        "input_audio",
        "function",
        "name",
        "parameters",
    ),
    *(
        "$ref",
        "#/a",
        "json",
        "regex",
        "choice",
        "grammar",
        "structural_tag",
        "json_object",
        "use_beam_search",
    ),
    *("kv_transfer_params", "priority", "request_id", "root ::= ", "bad_words", "minimum"),
)


def _json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def check_body(task: Task, raw: bytes) -> None:
    """A body is refused with a client's error, or becomes one for the engine that asks nothing of others."""
    models_named(raw)
    request = answer(lambda: parse_request(task, raw), InvalidInput, TooLarge)
    if request is None:
        return
    answer(partial(check_context, request, _CONTEXT_TOKENS), ContextExceeded)
    _check_for_engine(request)


def _check_for_engine(request: InferenceRequest) -> None:
    content = parse_json(engine_body(request, "backend", "salt"))
    assert content["model"] == "backend"
    assert content.get("cache_salt") == (None if request.task == "embeddings" else "salt")
    extra = content.get("vllm_xargs")
    assert _OF_THE_GATEWAY.isdisjoint(content)
    assert not isinstance(extra, dict) or _OF_THE_GATEWAY.isdisjoint(extra)
    assert not request.stream or content["stream_options"]["include_usage"] is True
    assert request.sequences >= 1


def _event(index: int, text: str, completion: int) -> bytes:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    choice = {"index": index, "delta": {"content": text}}
    return b"data: " + _json({"id": "c-1", "model": "tiny", "choices": [choice], "usage": usage}) + b"\n\n"


_STREAM = (
    b": keep-alive\n\n"
    + _event(0, "", 0)
    + _event(1, 'she said "usage":{"prompt_tokens":9} \\"choices\\":[]', 1)
    + _event(0, " end", 2)
    + b'data: {"id":"c-1","model":"tiny","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}\n\n'
    + b"data: [DONE]\n\n"
)
_BROKEN = _event(0, "a", 1) + b'data: {"error":{"message":"it broke","code":500}}\n\ndata: [DONE]\n\n'


def check_stream(data: bytes) -> None:
    """A stream gives the same bytes, counts and end however it is cut. Its first line is taken for the
    choices of the request."""
    head, _, stream = data.partition(b"\n")
    chance = dice(head)
    shown: UsageShown = chance.choice(("none", "final", "all"))
    rename = chance.choice((None, (b'"model": "tiny"', b'"model": "mine"')))
    choices, prompts = chance.choice((1, 1, 3)), chance.choice((1, 1, 2))

    def told(pieces: list[bytes]) -> tuple[Any, ...]:
        meter = StreamMeter(shown, choices, prompts, rename)
        try:
            given = b"".join([meter.feed(piece) for piece in pieces])
        except EngineFailed as error:
            return (error.message,)
        assert _is_sound(meter.counts)
        return (given, meter.counts, meter.finished, meter.told, meter.total_told, meter.error)

    pieces = cut(stream, chance)
    whole = told([stream])
    assert told(pieces) == whole, f"cut as {pieces[:50]}"
    splitter = EventSplitter()
    assert [event for piece in pieces for event in splitter.feed(piece)] == EventSplitter().feed(stream)
    comments, rest = without_comments(stream)
    assert comments + rest == stream
    if whole[-1] is not None and len(whole) > 1:
        can_be_sent(error_in_stream(whole[-1], "messages", healthy=chance.random() < 0.5))


def _is_sound(counts: TokenCounts) -> bool:
    return min(counts.prompt, counts.cached, counts.completion) >= 0 and counts.cached <= counts.prompt


def check_usage(raw: bytes) -> None:
    """Usage is found where it is, and a document stays one when it is taken out."""
    member = find_usage(raw)
    if member is None:
        return
    assert _is_sound(member.counts)
    assert raw[member.start :].startswith(b'"usage"')
    if answer(lambda: (parse_json(raw),), InvalidInput) is not None:
        parse_json(with_null_member(raw, member))
        parse_json(without_member(raw, member))


def check_engine_error(data: bytes) -> None:
    """Whatever an engine answers is told as one of our errors, in few words. The first line is its status."""
    head, _, body = data.partition(b"\n")
    status = int(head) if head.isdigit() and len(head) < 4 else 400
    status_in_stream(body)
    for error in (error_from_engine(status, body, "messages"), error_in_stream(body, "prompt")):
        can_be_sent(error)
        assert len(error.message) + len(error.param or "") <= _MOST_MESSAGE_CHARACTERS


_VALIDATION = (
    "1 validation error: {'type': 'string_type', 'loc': ('body', 'messages', 0, 'SomeParam', 'content'), "
    "'msg': 'Input should be a valid string', 'input': 5} For further information visit "
    "https://errors.pydantic.dev/2.14/v/string_type"
)
_ENGINE_ERRORS = (
    b'400\n{"error":{"message":"This model\'s maximum context length is 64 tokens","param":"input_tokens"}}',
    b"400\n" + _json({"error": {"message": _VALIDATION, "type": "Bad Request", "param": None, "code": 400}}),
    b'500\n{"object":"error","message":"internal"}',
    b"404\nnot JSON",
)

TARGETS = (
    Target(
        "body-chat",
        "request bodies of /v1/chat/completions",
        partial(check_body, "chat"),
        (_json(_CHAT), b'{"model":"m","messages":[{"role":"user","content":"\\u00e9"}]}'),
        _BODY_WORDS,
        {
            "a grammar of one long word": b'{"model":"m","messages":[{"role":"user","content":"a"}],'
            b'"structured_outputs":{"grammar":"' + b"a" * 60_000 + b'"}}',
            "many members and the last one twice": b"{"
            + b"".join(b'"%d":0,' % number for number in range(6000))
            + b'"5999":0}',
        },
    ),
    Target(
        "body-completions",
        "request bodies of /v1/completions",
        partial(check_body, "completions"),
        (_json(_CHOICES), b'{"model":"m","prompt":[1,2,3],"n":3,"stream":true}'),
        _BODY_WORDS,
    ),
    Target(
        "body-embeddings",
        "request bodies of /v1/embeddings",
        partial(check_body, "embeddings"),
        (_json(_EMBEDDINGS), b'{"model":"m","input":[[1,2],[3]]}'),
        _BODY_WORDS,
    ),
    Target(
        "stream",
        "an engine's server-sent events, cut in any way",
        check_stream,
        (b"a\n" + _STREAM, b"b\n" + _STREAM, b"c\n" + _BROKEN, b"d\n" + _BROKEN),
        (
            "data: ",
            "[DONE]",
            "usage",
            "choices",
            "index",
            "error",
            "code",
            "\n\n",
            '"usage":{',
            '"choices":[]',
        ),
    ),
    Target(
        "usage-member",
        "token counts in an engine's JSON",
        check_usage,
        (
            b'{"choices":[],"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2}},"id":1}',
            b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}',
        ),
        (
            '"usage":{',
            "usage",
            "prompt_tokens",
            "completion_tokens",
            "prompt_tokens_details",
            "cached_tokens",
        ),
    ),
    Target(
        "engine-error",
        "an engine's error answers",
        check_engine_error,
        _ENGINE_ERRORS,
        ("error", "message", "param", "code", "'msg': '", "'loc': (", "'loc': '", "https://", "pydantic"),
        {
            "a message that begins again and again": b'400\n{"message":"' + b"'msg': '" * 8000 + b'"}',
            "places without an end": b'400\n{"message":"' + b"'loc': (" * 8000 + b'"}',
            "a place that is empty": b"400\n{\"message\":\"'loc': '', 'msg': 'x'}\"}",
            "a message that says nothing": b"400\n{\"message\":\"'loc': '', 'msg': '', 'x'}\"}",
            "links without an end": b'400\n{"message":"' + b"http://" * 9000 + b'"}',
            "a message that is deep lists": b'400\n{"message":' + b"[" * 900 + b"]" * 900 + b"}",
        },
    ),
)
