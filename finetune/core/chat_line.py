"""One line of a chat training file: its messages as they are trained, or what is wrong with them.

The check at the door and the worker read lines with this and nothing else, so they cannot differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_LINE_BYTES = 4 * 1024**2
ROLES = ("system", "user", "assistant")

_EXAMPLE_KEYS = ("messages", "tools", "functions", "parallel_tool_calls")
_MESSAGE_KEYS = ("role", "content", "name", "weight")
_TOOL_KEYS = ("tool_calls", "function_call", "tool_call_id")
_ANSWER_KEYS = ("refusal", "audio", "annotations")
"""What an answer that was dumped by a client may carry; nothing can be learned from it."""
_TOOL_ROLES = ("tool", "function")
_HALF_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Finding = tuple[str, str]
"""Code and message."""
Message = dict[str, Any]


@dataclass(frozen=True)
class ChatLine:
    """``messages`` hold ``role``, ``content`` and, where they are given, ``name`` and ``weight`` (0 or 1).
    They are good for training only when there are no ``findings``."""

    messages: tuple[Message, ...] = ()
    findings: tuple[Finding, ...] = ()


def parse_line(line: bytes | None, number: int = 1) -> ChatLine:
    """The line's messages and all that is wrong with it; None stands for one that is too long."""
    if line is None:
        return _bad("line_too_long", f"is longer than {MAX_LINE_BYTES} bytes")
    if number == 1 and line.startswith(_BYTE_ORDER_MARK):
        rest = parse_line(line.removeprefix(_BYTE_ORDER_MARK), number=0)
        mark = ("byte_order_mark", "begins with a byte order mark; save the file as UTF-8 without BOM")
        return ChatLine(rest.messages, (mark, *rest.findings))
    try:
        example = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        return _bad("invalid_encoding", f"is not UTF-8 (byte {error.start + 1})")
    except RecursionError:
        return _bad("invalid_json", "is nested too deeply")
    except ValueError as error:
        return _bad("invalid_json", f"is not JSON: {error}")
    findings = tuple(_check_example(example))
    return ChatLine((), findings) if findings else ChatLine(tuple(map(_trained, example["messages"])))


def _bad(code: str, message: str) -> ChatLine:
    return ChatLine(findings=((code, message),))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _trained(message: Message) -> Message:
    """The members that count. Null stands for an absent member, as in dumps of data sets and answers."""
    trained = {key: message[key] for key in _MESSAGE_KEYS if message.get(key) is not None}
    if "weight" in trained:
        trained["weight"] = int(trained["weight"])
    return trained


def _check_example(example: Any) -> Iterator[Finding]:
    if not isinstance(example, dict):
        yield "data_type", f"must be an object, not {_kind(example)}"
        return
    for key, value in example.items():
        if key not in _EXAMPLE_KEYS and value is not None:
            yield "example_unrecognized_key", f"{_quote(key)}: unknown key"
    for key in ("tools", "functions"):
        if example.get(key):
            yield "tools_not_supported", f"{key}: training on tool calls is not supported"
    messages = example.get("messages")
    if not isinstance(messages, list):
        what = (
            "required, but missing" if "messages" not in example else f"must be a list, not {_kind(messages)}"
        )
        yield "missing_messages_list", f"messages: {what}"
    elif not messages:
        yield "messages_empty", "messages: must hold at least one message"
    else:
        yield from _check_messages(messages)


def _check_messages(messages: list[Any]) -> Iterator[Finding]:
    for index, message in enumerate(messages):
        for code, text in _check_message(message, index):
            yield code, f"messages[{index}]{text}"
    assistants = [m for m in messages if isinstance(m, dict) and m.get("role") == "assistant"]
    if not assistants:
        yield "example_missing_assistant_message", "messages: there is no assistant message to learn from"
    elif all(_is_number(m.get("weight"), 0) for m in assistants):
        yield "all_weights_zero", "messages: every assistant message has weight 0, so nothing is learned"


def _check_message(message: Any, index: int) -> Iterator[Finding]:
    if not isinstance(message, dict):
        yield "message_data_type", f": must be an object, not {_kind(message)}"
        return
    yield from _check_keys(message)
    yield from _check_role(message, index)
    yield from _check_content(message)
    yield from _check_name(message)
    yield from _check_weight(message)


def _check_keys(message: Message) -> Iterator[Finding]:
    for key, value in message.items():
        if value is None or key in _MESSAGE_KEYS:
            continue
        if key in _TOOL_KEYS:
            yield "tools_not_supported", f".{key}: training on tool calls is not supported"
        elif key not in _ANSWER_KEYS:
            yield "message_unrecognized_key", f".{_quote(key)}: unknown key"
        elif value:
            yield "answer_not_supported", f".{key}: training on it is not supported; leave it out"


def _check_name(message: Message) -> Iterator[Finding]:
    name = message.get("name")
    if name is None:
        return
    if not isinstance(name, str):
        yield "invalid_name", f".name: must be a text, not {_kind(name)}"
    elif _HALF_SURROGATE.search(name):
        yield "invalid_text", ".name: holds half of a surrogate pair, which is no character"


def _check_role(message: Message, index: int) -> Iterator[Finding]:
    role = message.get("role")
    if "role" not in message:
        yield "message_missing_key", ".role: required, but missing"
    elif role in _TOOL_ROLES:
        yield "tools_not_supported", f".role: training on {role} messages is not supported"
    elif role not in ROLES:
        yield "unrecognized_role", f".role: {_quote(role)} is unknown; known roles: {', '.join(ROLES)}"
    elif role == "system" and index > 0:
        yield "system_not_first", ".role: a system message must be the first one"


def _check_content(message: Message) -> Iterator[Finding]:
    content = message.get("content")
    if "content" not in message:
        yield "message_missing_key", ".content: required, but missing"
    elif not isinstance(content, str):
        yield "missing_content", f".content: must be a text, not {_kind(content)}"
    elif not content.strip():
        yield "missing_content", ".content: is empty"
    elif _HALF_SURROGATE.search(content):
        yield "invalid_text", ".content: holds half of a surrogate pair, which is no character"


def _check_weight(message: Message) -> Iterator[Finding]:
    weight = message.get("weight")
    if weight is None:
        return
    if not _is_number(weight, 0) and not _is_number(weight, 1):
        yield "invalid_weight", f".weight: must be 0 or 1, not {_quote(weight)}"
    elif message.get("role") != "assistant":
        yield "invalid_weight", ".weight: is only for assistant messages"


def _is_number(value: Any, wanted: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == wanted


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _quote(value: Any) -> str:
    """The value for a message: as ASCII and never long, whatever the file holds."""
    try:
        text = json.dumps(value)
    except RecursionError:
        return _kind(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
