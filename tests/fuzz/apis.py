"""What clients send in the form of the gateway's other APIs, and the named events that engines answer."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from common.errors import ContextExceeded, EngineFailed, InvalidInput, TooLarge
from common.strict_json import parse_json
from inference.core.apis.events import EVENTS, RUNNING_USAGE, EventMeter
from inference.core.apis.parsing import parse_body
from inference.core.apis.wires import WIRES
from inference.core.body import Api, BodyLimits, check_context, engine_body
from inference.core.engine_errors import error_in_stream
from inference.core.usage import find_last_usage
from tests.fuzz.target import Target, answer, can_be_sent, cut, dice

_CONTEXT_TOKENS = 4096
_OF_THE_GATEWAY = {"kv_transfer_params", "ec_transfer_params", "priority"}
_MESSAGES: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 1500,
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Hi"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}},
            ],
        },
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "4"}]},
    ],
    "stream": True,
    "stop_sequences": ["\n"],
    "tools": [{"name": "f", "input_schema": {"$ref": "#/$defs/a", "$defs": {"a": {}}}}],
    "tool_choice": {"type": "tool", "name": "f"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "metadata": {"user_id": "u"},
    "vllm_xargs": {"priority": 1},
}
_RESPONSES: dict[str, Any] = {
    "model": "tiny",
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "4"},
    ],
    "max_output_tokens": 9,
    "stream": True,
    "store": False,
    "text": {"format": {"type": "json_schema", "name": "s", "schema": {"items": {"$ref": "#"}}}},
    "tools": [{"type": "function", "name": "f", "parameters": {}}],
    "request_id": "theirs",
}
_OTHERS: dict[Api, dict[str, Any]] = {
    "count_tokens": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "rerank": {"model": "m", "query": "q", "documents": ["a", {"content": []}], "top_n": 1},
    "score": {"model": "m", "text_1": "q", "text_2": ["a"]},
    "tokenize": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "detokenize": {"model": "m", "tokens": [1, 2]},
}
_WORDS = tuple(
    {
        *_MESSAGES,
        *_RESPONSES,
        *(name for body in _OTHERS.values() for name in body),
        *(
            "type",
            "text",
            "image",
            "source",
            "url",
            "image_url",
            "input_image",
            "file_id",
            "http://h/",
            "data:,",
        ),
        *("previous_response_id", "role", "content", "tool_result", "$ref", "#/a", "kv_transfer_params"),
    }
)


def _json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def check_body(api: Api, raw: bytes) -> None:
    """A body is refused with a client's error that names a field, or becomes one for the engine that asks
    nothing of others."""
    request = answer(lambda: parse_body(api, raw, BodyLimits()), InvalidInput, TooLarge)
    if request is None:
        return
    assert request.api == api
    answer(partial(check_context, request, _CONTEXT_TOKENS), ContextExceeded)
    content = parse_json(engine_body(request, "backend", "salt", id_="req-1"))
    assert content["model"] == "backend"
    assert content.get("cache_salt") == (None if request.task == "embeddings" else "salt")
    assert content.get("request_id") == ("resp_1" if api == "responses" else None)
    assert _OF_THE_GATEWAY.isdisjoint(content)
    assert request.sequences >= 1
    assert bytes(request.prompt) == request.rest[: request.prompt_bytes]


def check_other_body(raw: bytes) -> None:
    """The same of all other APIs."""
    for api in _OTHERS:
        check_body(api, raw)


def _event(name: str, used: str = " 9 1", **content: Any) -> bytes:
    data = _json({"type": name, **content})
    return f"event: {name}\ndata: ".encode() + data + f"\n{RUNNING_USAGE}{used}\n\n".encode()


_USAGE = {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 4}
_MESSAGE = (
    _event("message_start", message={"model": "tiny", "usage": {"input_tokens": 9, "output_tokens": 0}})
    + _event("content_block_delta", delta={"text": f'\n{RUNNING_USAGE} 1 1\n\n "usage":{{'})
    + _event("message_delta", usage=_USAGE)
    + _event("message_stop")
)
_RESPONSE = (
    _event("response.created", " 0 0", response={"model": "tiny", "object": "response", "usage": None})
    + _event("response.output_text.delta", delta="a")
    + _event("response.completed", response={"tools": [{"usage": {}}], "usage": _USAGE})
)
_BROKEN = _event("content_block_delta") + b'event: error\ndata: {"error":{"message":"it broke"}}\n\n'


def check_stream(data: bytes) -> None:
    """A stream gives the same bytes, counts and end however it is cut, and no comment of ours. Its first line
    is taken for the API."""
    head, _, stream = data.partition(b"\n")
    chance = dice(head)
    api: Api = chance.choice(("messages", "responses"))
    rename = chance.choice((None, (b'"model":"tiny"', b'"model":"mine"')))

    def told(pieces: list[bytes]) -> tuple[Any, ...]:
        meter = EventMeter(EVENTS[api], rename)
        try:
            given = b"".join([meter.feed(piece) for piece in pieces])
        except EngineFailed as error:
            return (error.message,)
        counts = meter.counts
        assert min(counts.prompt, counts.cached, counts.completion) >= 0
        assert counts.cached <= counts.prompt
        end = meter.ending(None)
        return given, end, counts, meter.finished, meter.told, meter.total_told, meter.error

    pieces = cut(stream, chance)
    whole = told([stream])
    assert told(pieces) == whole, f"cut as {pieces[:50]}"
    WIRES[api].has_only_begun(stream)
    if whole[-1] is not None and len(whole) > 1:
        error = error_in_stream(whole[-1], "messages", healthy=chance.random() < 0.5)
        can_be_sent(error)
        assert EventMeter(EVENTS[api]).ending(error).endswith(b"\n\n")


def check_last_usage(raw: bytes) -> None:
    """Usage is found where it is, and an answer stays one document when it is made a client's."""
    member = find_last_usage(raw)
    if member is not None:
        assert raw[member.start :].startswith(b'"usage"')
        assert member.counts.cached <= member.counts.prompt
    is_json = answer(lambda: (parse_json(raw),), InvalidInput) is not None
    for wire in WIRES.values():
        edited = wire.edited(raw, (b'"model":"tiny"', b'"model":"mine"'))
        if is_json:
            parse_json(edited)


TARGETS = (
    Target(
        "body-messages",
        "request bodies of /v1/messages",
        partial(check_body, "messages"),
        (_json(_MESSAGES),),
        _WORDS,
    ),
    Target(
        "body-responses",
        "request bodies of /v1/responses",
        partial(check_body, "responses"),
        (_json(_RESPONSES),),
        _WORDS,
    ),
    Target(
        "body-others",
        "request bodies of rerank, score, tokenize, detokenize and count_tokens",
        check_other_body,
        tuple(map(_json, _OTHERS.values())),
        _WORDS,
    ),
    Target(
        "named-stream",
        "an engine's events with names, cut in any way",
        check_stream,
        tuple(head + body for head in (b"a\n", b"b\n", b"c\n") for body in (_MESSAGE, _RESPONSE, _BROKEN)),
        (
            "event: ",
            "data: ",
            "message_stop",
            "message_delta",
            "response.completed",
            "error",
            "\n\n",
            RUNNING_USAGE,
        ),
    ),
    Target(
        "last-usage",
        "token counts behind objects of clients and models",
        check_last_usage,
        (
            b'{"content":[{"input":{"usage":{"input_tokens":1}}}],"model":"tiny","usage":'
            + _json(_USAGE)
            + b"}",
            b'{"model":"tiny","object":"response","usage":' + _json(_USAGE) + b',"kv_transfer_params":null}',
        ),
        ('"usage":{', "usage", "input_tokens", "output_tokens", "cache_read_input_tokens", '"model":"tiny"'),
    ),
)
