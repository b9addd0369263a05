"""Whole answers under rules: all that a model wrote in them, before a client is given it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from inference.core.body import Api
from inference.guardrails.rules import Rules
from inference.guardrails.walking import Hit, Walk

GUARDED: frozenset[Api] = frozenset({"chat", "completions", "messages", "responses", "detokenize"})
"""APIs whose answers hold texts."""
_SPELT_OUT = ("logprobs", "token_ids", "prompt_logprobs", "prompt_token_ids")
"""Members that tell the text once more, token by token."""


def guarded_answer(api: Api, body: bytes, rules: Rules, told: Callable[[Hit], None]) -> bytes:
    """The answer with masks in place of hits, and without what spells its text out. Raises ``Blocked``."""
    content = json.loads(body)
    walk = Walk(rules, told)
    spelt = False
    if api in ("chat", "completions"):
        for position, choice in enumerate(content["choices"]):
            spelt |= without_spelling(choice)
            name = "message" if api == "chat" else "text"
            choice[name] = walk.value(choice.get(name), f"choices[{position}].{name}")
        spelt |= without_spelling(content)
    elif api == "messages":
        content["content"] = walk.value(content.get("content"), "content")
    elif api == "responses":
        spelt = b'"logprobs"' in body
        content["output"] = guarded_output(walk, content.get("output"))
    else:
        content["prompt"] = walk.value(content.get("prompt"), "prompt")
    return encoded(content) if rules.changes and (walk.changed or spelt) else body


def encoded(content: Any) -> bytes:
    """JSON, as engines write it; half a character in a text is an escape."""
    try:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(content, separators=(",", ":")).encode()


def guarded_output(walk: Walk, output: Any) -> Any:
    """What a response holds."""
    for item in output or ():
        for part in item.get("content") or () if isinstance(item, dict) else ():
            if isinstance(part, dict) and part.get("logprobs"):
                part["logprobs"] = []
    return walk.value(output, "output")


def without_spelling(member: dict[str, Any]) -> bool:
    """Take out what spells a text out token by token. Whether there was any."""
    spelt = [name for name in _SPELT_OUT if member.get(name) is not None]
    for name in spelt:
        member[name] = None
    return bool(spelt)
