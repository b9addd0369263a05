"""JSON values under rules: each text in them, and the names of members, with masks in place of hits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from inference.guardrails.folding import folded
from inference.guardrails.masking import GuardedText
from inference.guardrails.rules import Rule, Rules

_JSON_TEXTS = frozenset({"arguments", "partial_json"})
"""Members whose text holds JSON."""
_NEVER_TEXT = frozenset({"type", "role", "id", "call_id", "item_id", "tool_call_id", "object", "status"})
"""Members that say what something is, as engine and client need it."""
_KNOWN = _NEVER_TEXT | {
    *(
        "additionalProperties",
        "annotations",
        "arguments",
        "audio",
        "content",
        "description",
        "enum",
        "format",
    ),
    *("function", "function_call", "index", "input", "input_schema", "instructions", "items", "json_schema"),
    *(
        "logprobs",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "message",
        "messages",
        "n",
        "name",
    ),
    *(
        "output",
        "parameters",
        "properties",
        "reasoning",
        "reasoning_content",
        "refusal",
        "required",
        "schema",
    ),
    *(
        "response_format",
        "seed",
        "signature",
        "stop",
        "stop_sequences",
        "stream",
        "strict",
        "summary",
        "system",
    ),
    *(
        "temperature",
        "text",
        "thinking",
        "title",
        "tool_calls",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
    ),
}
"""Names of members that are not looked at, as APIs make them."""
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""A name that a path may show; others, which a client may have made of a text, are a star in it."""
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")
_URLS = frozenset({"url", "image_url", "audio_url", "video_url", "file_url"})
_CODED = re.compile(r"[A-Za-z0-9+/_=-]{128,}")
_CODED_URL = re.compile(r"data:[\w.+/-]{0,80};base64,[A-Za-z0-9+/_=-]*", re.ASCII)
"""Media in base64, which guards do not read."""


@dataclass(frozen=True)
class Hit:
    """Something that a rule found ``count`` times at ``path``, as ``messages[2].content``."""

    rule: Rule
    path: str
    count: int


class Blocked(Exception):
    """A rule forbids what it found."""

    def __init__(self, hit: Hit) -> None:
        super().__init__(hit.path)
        self.hit = hit


@dataclass
class Walk:
    """Goes through values. ``hits`` are told as they are found, ``changed`` whether anything was masked."""

    rules: Rules
    told: Callable[[Hit], None]
    changed: bool = field(default=False, init=False)

    def text(self, text: str, path: str, is_json: bool = False) -> str:
        """The text with masks. Raises ``Blocked``."""
        if "\\" not in text and not self.rules.may_hit(folded(text)):
            return text
        guarded = GuardedText(self.rules, is_json)
        masked = guarded.whole(text)
        for rule, count in guarded.hits.items():
            self.told(Hit(rule, path, count))
        if guarded.blocked is not None:
            raise Blocked(Hit(guarded.blocked, path, guarded.hits[guarded.blocked]))
        if not guarded.changed:
            return text
        self.changed = True
        return masked

    def value(self, value: Any, path: str, name: str = "") -> Any:
        """The value, itself where nothing in it is masked. ``name``: of the member that it is. Raises
        ``Blocked``."""
        if isinstance(value, str):
            return self.text(value, path, name in _JSON_TEXTS) if _is_text(name, value) else value
        if isinstance(value, list):
            return self._list(value, path, name)
        return self._members(value, path) if isinstance(value, dict) else value

    def _list(self, values: list[Any], path: str, name: str) -> list[Any]:
        made = [self.value(one, f"{path}[{position}]", name) for position, one in enumerate(values)]
        return made if any(new is not old for new, old in zip(made, values, strict=True)) else values

    def _members(self, members: dict[str, Any], path: str) -> dict[str, Any]:
        made: dict[str, Any] = {}
        same = True
        for name, value in members.items():
            called = name if name in _KNOWN else self.text(name, path)
            shown = name if called == name and _PLAIN.fullmatch(name) else "*"
            where = f"{path}.{shown}" if path else shown
            new = self.value(value, where, name)
            same = same and new is value and called == name
            made[called] = new
        return members if same else made


def _is_text(name: str, value: str) -> bool:
    """Whether a member's text is one, and not what it is of, or media."""
    if name in _NEVER_TEXT:
        return _IDENTIFIER.fullmatch(value) is None
    if name == "data":
        return _CODED.fullmatch(value) is None
    return name not in _URLS or _CODED_URL.fullmatch(value) is None
