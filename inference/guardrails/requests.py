"""Requests under rules: all that reaches a model as text, before an engine is sent it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from common.errors import InvalidInput
from inference.core.body import InferenceRequest, prompt_first
from inference.guardrails.folding import folded
from inference.guardrails.rules import Rules
from inference.guardrails.walking import Blocked, Hit, Walk

_NOT_READ = frozenset({"metadata", "prompt_cache_key", "safety_identifier", "user", "stream_options"})
"""Members that no model reads."""
_ESCAPED = re.compile(rb"\\[bfu/]")
"""Characters that nobody sees or beyond ASCII, as JSON writes them, and, in JSON within a text, any other."""
_TOKENS = ("prompt", "input", "tokens")
UNREADABLE = "guardrail_unreadable"
"""The code of a request whose text no guard can read."""


def guarded_request(request: InferenceRequest, rules: Rules, told: Callable[[Hit], None]) -> InferenceRequest:
    """The request with masks in place of hits. Raises ``Blocked``, and ``InvalidInput`` where its prompt is
    made of tokens, which no guard can read."""
    if request.task == "chat" and _is_clean(request, rules):
        return request
    content: dict[str, Any] = json.loads(request.rest)
    for name in _TOKENS:
        if _has_tokens(content.get(name)):
            message = f"{name}: a guardrail binds this request, and reads no token ids; send the text"
            raise InvalidInput(message, UNREADABLE, name)
    if content.get("prompt_embeds") is not None:
        message = "prompt_embeds: a guardrail binds this request, and reads no embeddings; send the text"
        raise InvalidInput(message, UNREADABLE, "prompt_embeds")
    walk = Walk(rules, told)
    made = {
        name: value if name in _NOT_READ else walk.value(value, name, name) for name, value in content.items()
    }
    if not walk.changed:
        return request
    first = json.loads(bytes(request.prompt) + b"}") if request.prompt_bytes else {}
    names = list(made)[: len(first)] or list(made)
    rest, size = prompt_first(made, names)
    return replace(request, rest=rest, prompt_bytes=size if first else 0)


def _is_clean(request: InferenceRequest, rules: Rules) -> bool:
    """Whether there is no sign of a hit, as in most requests: told from the prompt's JSON as it is, unless
    characters are escaped in it that stand for others, or for none."""
    prompt = bytes(request.prompt)
    if not prompt or not prompt.isascii() or _ESCAPED.search(prompt) is not None:
        return False
    if rules.may_hit(folded(prompt.decode())):
        return False
    others = json.loads(b"{" + request.rest[len(prompt) :].removeprefix(b","))
    hits: list[Hit] = []
    walk = Walk(rules, hits.append)
    try:
        walk.value({name: value for name, value in others.items() if name not in _NOT_READ}, "")
    except Blocked:
        return False
    return not hits


def _has_tokens(value: Any) -> bool:
    """Whether there are token ids in the prompts of a request."""
    if not isinstance(value, list):
        return False
    return any(isinstance(one, int) or (isinstance(one, list) and one) or _is_tokens(one) for one in value)


def _is_tokens(one: Any) -> bool:
    return isinstance(one, dict) and ("prompt_token_ids" in one or "prompt_embeds" in one)
