"""What the APIs differ in on their way: paths, the usage that an answer tells, and the words of errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import ComputilityError, mapping_of, openai_body
from common.vocabulary import harmless
from inference.core.body import Api, Task
from inference.core.engine_members import without_empty_members
from inference.core.usage import TokenCounts, UsageMember, find_last_usage, find_usage

Rename = tuple[bytes, bytes]
"""A member with the engine's name of a model, and with the client's."""
ErrorBody = Callable[[ComputilityError], dict[str, object]]
_MADE = re.compile(rb"(?:\A|\n)event: (?!response\.created\n|response\.in_progress\n)[\w.]+\n")
"""The beginning of an event that tells more than that there is a response."""
_OVERLOADED = frozenset({503, 529})


def _as_openai(content: bytes, rename: Rename | None) -> bytes:
    content = without_empty_members(content)
    return content.replace(*rename, 1) if rename else content


def _renamed_at_the_end(content: bytes, rename: Rename | None) -> bytes:
    """What a model wrote stands before the model's name, and may hold members of any name."""
    before, found, after = content.rpartition(rename[0]) if rename else (b"", b"", content)
    return b"".join((before, rename[1], after)) if rename and found else content


def _as_it_is(content: bytes, _: Rename | None) -> bytes:
    return content


def renamed_response(content: bytes, rename: Rename) -> bytes:
    """A response, or an event that holds one. What a client said may stand before the model's name, but not
    with this member behind it."""
    engine, client = (name + b',"object":"response"' for name in rename)
    return content.replace(engine, client, 1)


def _as_response(content: bytes, rename: Rename | None) -> bytes:
    """Tools of the client, which may have members of any name, stand before the usage."""
    if (usage := find_last_usage(content)) is not None:
        content = content[: usage.end] + without_empty_members(content[usage.end :])
    return renamed_response(content, rename) if rename else content


def _is_nothing(content: bytes) -> bool:
    return not content


def _is_response_begun(content: bytes) -> bool:
    """A response is told of before its prompt is read. No line of data begins so."""
    return _MADE.search(content) is None


@dataclass(frozen=True)
class Wire:
    """One API. ``path`` is the gateway's, ``engine_path`` an engine's. ``served_by``: a model serves it that
    has one of these tasks. ``usage``: where an answer in one piece tells it. ``is_billed``: False where an
    engine makes and reads nothing for it. ``edited``: an answer in one piece as a client is given it, by the
    model's name that it knows. ``has_only_begun``: whether so much of a stream comes before anything was
    made; told of its last bytes alone where those before have been looked at."""

    path: str
    engine_path: str
    served_by: frozenset[Task]
    usage: Callable[[bytes], UsageMember | None] = find_usage
    is_billed: bool = True
    edited: Callable[[bytes, Rename | None], bytes] = _as_openai
    has_only_begun: Callable[[bytes], bool] = _is_nothing


def _nothing_used(_: bytes) -> UsageMember | None:
    return UsageMember(0, 0, 0, TokenCounts())


def _same(path: str, *tasks: Task, **more: Any) -> Wire:
    return Wire(path, path, frozenset(tasks), **more)


def _free(path: str, engine_path: str) -> Wire:
    """Of any model, and not billed."""
    tasks: frozenset[Task] = frozenset({"chat", "completions", "embeddings"})
    return Wire(path, engine_path, tasks, usage=_nothing_used, is_billed=False, edited=_as_it_is)


WIRES: Mapping[Api, Wire] = {
    "chat": _same("/v1/chat/completions", "chat"),
    "completions": _same("/v1/completions", "completions"),
    "embeddings": _same("/v1/embeddings", "embeddings"),
    "messages": _same("/v1/messages", "chat", usage=find_last_usage, edited=_renamed_at_the_end),
    "count_tokens": _same(
        "/v1/messages/count_tokens", "chat", usage=_nothing_used, is_billed=False, edited=_as_it_is
    ),
    "responses": _same(
        "/v1/responses",
        "chat",
        usage=find_last_usage,
        edited=_as_response,
        has_only_begun=_is_response_begun,
    ),
    "rerank": Wire("/v1/rerank", "/rerank", frozenset({"embeddings"})),
    "score": Wire("/v1/score", "/score", frozenset({"embeddings"})),
    "tokenize": _free("/v1/tokenize", "/tokenize"),
    "detokenize": _free("/v1/detokenize", "/detokenize"),
}
APIS: Mapping[str, Api] = {wire.path: api for api, wire in WIRES.items()}
"""By path."""


def served_by(api: Api, tasks: Collection[str]) -> bool:
    """Whether a model with those tasks serves an API."""
    return not WIRES[api].served_by.isdisjoint(tasks)


def apis_of(tasks: Collection[str]) -> list[Api]:
    """Those that a model with these tasks serves."""
    return [api for api in WIRES if served_by(api, tasks)]


def error_body_of(path: str) -> ErrorBody:
    """How errors are told on a path."""
    return anthropic_body if path.startswith(WIRES["messages"].path) else openai_body


def anthropic_body(error: ComputilityError) -> dict[str, object]:
    """The error in Anthropic's shape, with what ours tell beside it."""
    row = mapping_of(error)
    kind = row.openai_type
    if kind == "server_error":
        kind = "overloaded_error" if row.http_status in _OVERLOADED else "api_error"
    elif row.http_status == 429:
        kind = "rate_limit_error"
    elif row.http_status == 413:
        kind = "request_too_large"
    elif row.http_status == 409:
        kind = "invalid_request_error"
    param = harmless(error.param) if error.param else error.param
    told = {"type": kind, "message": harmless(error.message), "code": error.code, "param": param}
    return {"type": "error", "error": told}


def named_event(name: str, content: Mapping[str, object]) -> bytes:
    """A server-sent event with a name."""
    return f"event: {name}\ndata: {json.dumps(content)}\n\n".encode()
