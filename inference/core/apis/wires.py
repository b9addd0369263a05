"""What the APIs differ in on their way: paths, the usage that an answer tells, and the words of errors."""

from __future__ import annotations

import json
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
_OVERLOADED = frozenset({503, 529})


def _as_openai(content: bytes, rename: Rename | None) -> bytes:
    content = without_empty_members(content)
    return content.replace(*rename, 1) if rename else content


def _renamed_at_the_end(content: bytes, rename: Rename | None) -> bytes:
    """What a model wrote stands before the model's name, and may hold members of any name."""
    before, found, after = content.rpartition(rename[0]) if rename else (b"", b"", content)
    return b"".join((before, rename[1], after)) if rename and found else content


@dataclass(frozen=True)
class Wire:
    """One API. ``path`` is the gateway's, ``engine_path`` an engine's. ``served_by``: a model serves it that
    has one of these tasks. ``usage``: where an answer in one piece tells it. ``is_billed``: False where an
    engine makes and reads nothing for it."""

    path: str
    engine_path: str
    served_by: frozenset[Task]
    usage: Callable[[bytes], UsageMember | None] = find_usage
    is_billed: bool = True
    edited: Callable[[bytes, Rename | None], bytes] = _as_openai


def _nothing_used(_: bytes) -> UsageMember | None:
    return UsageMember(0, 0, 0, TokenCounts())


def _same(path: str, *tasks: Task, **more: Any) -> Wire:
    return Wire(path, path, frozenset(tasks), **more)


WIRES: Mapping[Api, Wire] = {
    "chat": _same("/v1/chat/completions", "chat"),
    "completions": _same("/v1/completions", "completions"),
    "embeddings": _same("/v1/embeddings", "embeddings"),
    "messages": _same("/v1/messages", "chat", usage=find_last_usage, edited=_renamed_at_the_end),
    "count_tokens": _same(
        "/v1/messages/count_tokens", "chat", usage=_nothing_used, is_billed=False, edited=_renamed_at_the_end
    ),
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
