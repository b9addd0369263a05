"""Messages of a chat: what each role has to say, told by the path of what is wrong.

What passes here is not all that an engine takes: it may know more roles, and models differ in the media that
they read. What no engine takes is refused here, because its own words name the wrong thing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from common.errors import InvalidInput
from inference.core.fields import is_filled_text, is_object, is_text, optional, required, wrong_type

MAX_MESSAGES = 10_000

_NEED_CONTENT = frozenset({"system", "developer", "user", "tool"})
"""Roles whose message is its content; others may have none, such as an assistant's that calls a tool."""
_TEXTS = {"text": "text", "refusal": "refusal", "thinking": "thinking"}
"""Parts that hold a text, and the field that it stands in."""
_MEDIA = frozenset(
    {
        "audio_embeds",
        "audio_url",
        "file",
        "image_embeds",
        "image_pil",
        "image_url",
        "input_audio",
        "prompt_embeds",
        "tool_reference",
        "video_embeds",
        "video_url",
    }
)
_CONTENT = "a string or a list of content parts"
_ROLES = frozenset({"assistant", "developer", "function", "system", "tool", "user"})
"""Those of OpenAI's API; what further ones a model knows is its template's to say."""
_MAX_LOOKED_AT_BYTES = 65_536


def check_messages(content: Mapping[str, Any]) -> None:
    """Raises ``InvalidInput`` whose ``param`` is a path such as ``messages[0].content[1]``."""
    messages = required(content, "messages")
    if not isinstance(messages, list) or not messages:
        wrong_type("messages", "a list of at least one message", messages)
    if len(messages) > MAX_MESSAGES:
        raise InvalidInput(
            f"messages: at most {MAX_MESSAGES}, not {len(messages)}", "too_many_messages", "messages"
        )
    for position, message in enumerate(messages):
        if isinstance(message, dict) and len(message) == 2 and message.get("role") and _are_texts(message):
            continue
        path = f"messages[{position}]"
        if not isinstance(message, dict):
            wrong_type(path, "an object", message)
        _check_message(message, path)


def _are_texts(message: dict[str, Any]) -> bool:
    """Whether there is a role and a text, both as they have to be, as in most messages."""
    return isinstance(message.get("role"), str) and isinstance(message.get("content"), str)


def odd_role(prompt: memoryview | bytes) -> str:
    """The path of the first role that OpenAI's API does not know in what a chat's prompt is made of, an
    object without its end; empty where there is none, or the prompt is long."""
    if len(prompt) > _MAX_LOOKED_AT_BYTES:
        return ""
    try:
        messages = json.loads(bytes(prompt) + b"}")["messages"]
        odd = (f"messages[{at}].role" for at, message in enumerate(messages) if message["role"] not in _ROLES)
        return next(odd, "")
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""


def _check_message(message: Mapping[str, Any], path: str) -> None:
    role = required(message, "role", path)
    if not is_filled_text(role):
        wrong_type(f"{path}.role", "a non-empty string such as user", role)
    for name in ("name", "tool_call_id"):
        optional(message, name, is_text, "a string", path=path)
    _check_content(message, role, path)
    calls = optional(message, "tool_calls", lambda value: isinstance(value, list), "a list", [], path)
    for position, call in enumerate(calls):
        _check_call(call, f"{path}.tool_calls[{position}]")


def _check_content(message: Mapping[str, Any], role: str, path: str) -> None:
    path += ".content"
    value = message.get("content")
    if value is None:
        if role in _NEED_CONTENT:
            raise InvalidInput(
                f"{path} must be {_CONTENT}: a message of the role {role} needs one",
                "missing_required_parameter",
                path,
            )
        return
    if isinstance(value, str):
        return
    if not isinstance(value, list):
        wrong_type(path, _CONTENT, value)
    if not value and role in _NEED_CONTENT:
        wrong_type(path, _CONTENT, value)
    for position, part in enumerate(value):
        if not isinstance(part, str):
            _check_part(part, f"{path}[{position}]")


def _check_part(part: Any, path: str) -> None:
    if not isinstance(part, dict):
        wrong_type(path, "an object with a type, such as text", part)
    kind = part.get("type")
    if kind is None and not _MEDIA.isdisjoint(part):
        return
    if not isinstance(kind, str) or (kind not in _TEXTS and kind not in _MEDIA):
        known = ", ".join(sorted({*_TEXTS, *_MEDIA}))
        raise InvalidInput(
            f"{path} has no type of a content part that is known; known are {known}", "invalid_value", path
        )
    field = _TEXTS.get(kind)
    if field is not None and not (kind == "thinking" and part.get(field) is None):
        if not isinstance(part.get(field), str):
            raise InvalidInput(
                f"{path} is a part of the type {kind}, but its {field} is no string", "invalid_type", path
            )
    elif kind.endswith("_url") and not isinstance(part.get(kind), str | dict):
        raise InvalidInput(f"{path} is a part of the type {kind}, but has no {kind}", "invalid_type", path)


def _check_call(call: Any, path: str) -> None:
    if not isinstance(call, dict):
        wrong_type(path, "an object", call)
    for name in ("id", "type"):
        optional(call, name, is_text, "a string", path=path)
    function = optional(call, "function", is_object, "an object", path=path)
    if function is None:
        if call.get("type", "function") == "function":
            required(call, "function", path)
        return
    path += ".function"
    name = required(function, "name", path)
    if not isinstance(name, str):
        wrong_type(f"{path}.name", "a string", name)
    optional(function, "arguments", is_text, "a string that holds JSON", path=path)
