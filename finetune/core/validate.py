"""What is wrong with a chat training file: every bad line, named, with a stable code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from common.errors import Problem
from finetune.core.lines import numbered_lines

MIN_EXAMPLES = 10
MAX_PROBLEMS = 100
MAX_LINE_BYTES = 4 * 1024**2
ROLES = ("system", "user", "assistant")

_EXAMPLE_KEYS = ("messages", "tools", "functions", "parallel_tool_calls")
_MESSAGE_KEYS = ("role", "content", "name", "weight")
_TOOL_KEYS = ("tool_calls", "function_call", "tool_call_id")
_TOOL_ROLES = ("tool", "function")
_HALF_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Finding = tuple[str, str]
"""Code and message."""


@dataclass(frozen=True)
class Validation:
    """``problems`` are the first ``MAX_PROBLEMS`` of ``problem_count``; ``examples`` counts lines."""

    examples: int
    problems: tuple[Problem, ...]
    problem_count: int

    @property
    def is_valid(self) -> bool:
        return self.problem_count == 0


def validate_chat(chunks: Iterable[bytes], min_examples: int = MIN_EXAMPLES) -> Validation:
    """Check a JSONL file of chats, given as pieces of any size. Blank lines are allowed only at the end."""
    problems: list[Problem] = []
    count = examples = 0
    blanks: list[int] = []
    for number, line in numbered_lines(chunks, MAX_LINE_BYTES):
        if line is not None and not line.strip():
            blanks.append(number)
            continue
        found = [(n, ("blank_line", "is blank; remove it")) for n in blanks]
        found += [(number, finding) for finding in check_line(line, number)]
        blanks, examples, count = [], examples + 1, count + len(found)
        room = MAX_PROBLEMS - len(problems)
        problems += [Problem(f"line {n}", message, code) for n, (code, message) in found[:room]]
    if examples < min_examples:
        text = f"has {examples} example(s), but must have at least {min_examples}"
        problems, count = (
            [Problem("file", text, "invalid_n_examples"), *problems[: MAX_PROBLEMS - 1]],
            count + 1,
        )
    return Validation(examples, tuple(problems), count)


def check_line(line: bytes | None, number: int = 1) -> Iterator[Finding]:
    """All that is wrong with one line; None stands for one that is too long."""
    if line is None:
        yield "line_too_long", f"is longer than {MAX_LINE_BYTES} bytes"
        return
    if number == 1 and line.startswith(_BYTE_ORDER_MARK):
        yield "byte_order_mark", "begins with a byte order mark; save the file as UTF-8 without BOM"
        line = line.removeprefix(_BYTE_ORDER_MARK)
    try:
        example = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        yield "invalid_encoding", f"is not UTF-8 (byte {error.start + 1})"
    except RecursionError:
        yield "invalid_json", "is nested too deeply"
    except ValueError as error:
        yield "invalid_json", f"is not JSON: {error}"
    else:
        yield from _check_example(example)


def _check_example(example: Any) -> Iterator[Finding]:
    if not isinstance(example, dict):
        yield "data_type", f"must be an object, not {_kind(example)}"
        return
    for key in example:
        if key not in _EXAMPLE_KEYS:
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
    for key in message:
        if key in _TOOL_KEYS:
            yield "tools_not_supported", f".{key}: training on tool calls is not supported"
        elif key not in _MESSAGE_KEYS:
            yield "message_unrecognized_key", f".{_quote(key)}: unknown key"
    yield from _check_role(message, index)
    yield from _check_content(message)
    if "name" in message and not isinstance(message["name"], str):
        yield "invalid_name", f".name: must be a text, not {_kind(message['name'])}"
    yield from _check_weight(message)


def _check_role(message: dict[str, Any], index: int) -> Iterator[Finding]:
    role = message.get("role")
    if "role" not in message:
        yield "message_missing_key", ".role: required, but missing"
    elif role in _TOOL_ROLES:
        yield "tools_not_supported", f".role: training on {role} messages is not supported"
    elif role not in ROLES:
        yield "unrecognized_role", f".role: {_quote(role)} is unknown; known roles: {', '.join(ROLES)}"
    elif role == "system" and index > 0:
        yield "system_not_first", ".role: a system message must be the first one"


def _check_content(message: dict[str, Any]) -> Iterator[Finding]:
    content = message.get("content")
    if "content" not in message:
        yield "message_missing_key", ".content: required, but missing"
    elif not isinstance(content, str):
        yield "missing_content", f".content: must be a text, not {_kind(content)}"
    elif not content.strip():
        yield "missing_content", ".content: is empty"
    elif _HALF_SURROGATE.search(content):
        yield "invalid_text", ".content: holds half of a surrogate pair, which is no character"


def _check_weight(message: dict[str, Any]) -> Iterator[Finding]:
    if "weight" not in message:
        return
    weight = message["weight"]
    if not _is_number(weight, 0) and not _is_number(weight, 1):
        yield "invalid_weight", f".weight: must be 0 or 1, not {_quote(weight)}"
    elif message.get("role") != "assistant":
        yield "invalid_weight", ".weight: is only for assistant messages"


def _is_number(value: Any, wanted: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value == wanted


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
