"""Token counts as an engine reports them, found in its JSON without parsing all of it.

A key is followed by a colon and, inside a string, every quote is preceded by a backslash: so ``"usage":{``
with a bare quote in front can only be the member that we look for, whatever the model wrote.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from common.records import record

_KEY = b'"usage"'
_VALUE_AT = len(_KEY) + 1
_MEMBER = re.compile(rb'"usage"\s*:\s*(?=\{)')
_MEMBER_NAME = re.compile(rb'"usage"\s*:')
_NUMBER = rb"(0|[1-9]\d{0,11})"
_RUNNING = (
    rb'"usage":\{"prompt_tokens":%b,"total_tokens":%b,"completion_tokens":%b(?:,"completion_tokens_details":null)?'
    % (_NUMBER, _NUMBER, _NUMBER)
)
_USUAL = re.compile(
    rb'%b(?:,"prompt_tokens_details":(?:null|\{"cached_tokens":%b\}))?\}' % (_RUNNING, _NUMBER)
)
"""The member as engines write it."""
_LAST = re.compile(rb",%b\}\}\n\n" % _RUNNING)
"""The same where it is the last of an event in the midst of a stream."""
_LAST_KEY, _BEGIN, _ONE_CHOICE, _END = b',"usage":{', b'data: {"id":', b'"choices":[{"index":', b"}\n\n"
_BESIDE_INPUT = ("cache_read_input_tokens", "cache_creation_input_tokens")
_BRACE = re.compile(rb"[{}]")


@record(frozen=True)
class TokenCounts:
    """Tokens of one request. ``cached`` is the part of ``prompt`` that came from the prefix cache."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def with_cached(self, cached: int) -> TokenCounts:
        """The same with so many cached tokens, at most the prompt's."""
        return replace(self, cached=min(cached, self.prompt))

    def quantities(self) -> dict[str, int]:
        """Billing meters, only those above zero."""
        meters = {}
        if self.prompt > 0:
            meters["prompt_tokens"] = self.prompt
        if self.cached > 0:
            meters["cached_tokens"] = self.cached
        if self.completion > 0:
            meters["completion_tokens"] = self.completion
        return meters


@record(frozen=True)
class UsageMember:
    """Where the member ``"usage":{…}`` lies in some JSON bytes (``start`` at its key), and what it says."""

    start: int
    value_start: int
    end: int
    counts: TokenCounts


def find_usage(content: bytes) -> UsageMember | None:
    """The usage member of one JSON document, or None when it has none (or a ``null`` one)."""
    at = content.find(_KEY)
    usual = _USUAL.match(content, at) if at >= 0 and content[at - 1 : at] != b"\\" else None
    if usual is not None:
        prompt = int(usual[1])
        counts = TokenCounts(prompt, min(int(usual[4] or 0), prompt), int(usual[3]))
        return UsageMember(at, at + _VALUE_AT, usual.end(), counts)
    match = find_member(content, _KEY, _MEMBER)
    return _member(content, match) if match is not None else None


def _member(content: bytes, match: re.Match[bytes]) -> UsageMember | None:
    end = _closing_brace(content, match.end())
    if end is None:
        return None
    try:
        usage = json.loads(content[match.end() : end])
    except (ValueError, RecursionError):
        return None
    return UsageMember(match.start(), match.end(), end, _counts(usage))


def find_last_usage(content: bytes) -> UsageMember | None:
    """The usage member that comes last, where objects that a client or a model wrote may stand before it, but
    only texts and numbers behind it. None where there is none (or a ``null`` one)."""
    at = content.rfind(_KEY)
    while at >= 0:
        if _MEMBER_NAME.match(content, at) is not None and content[at - 1 : at] != b"\\":
            match = _MEMBER.match(content, at)
            return _member(content, match) if match is not None else None
        at = content.rfind(_KEY, 0, at)
    return None


def running_usage(event: bytes) -> tuple[bytes, int, int] | None:
    """An event of one choice as engines usually write it, less its usage, and that: tokens of the prompt and
    of the answer. None for any other, whatever it is."""
    at = event.find(_LAST_KEY)
    if at < 0 or not event.startswith(_BEGIN) or _ONE_CHOICE not in event:
        return None
    match = _LAST.fullmatch(event, at)
    return (event[:at] + _END, int(match[1]), int(match[3])) if match is not None else None


def find_member(content: bytes, key: bytes, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
    """The first match of ``pattern``, which begins with the quoted ``key``, outside of any string."""
    at = content.find(key)
    while at >= 0:
        match = pattern.match(content, at)
        if match is not None and content[at - 1 : at] != b"\\":
            return match
        at = content.find(key, at + 1)
    return None


def without_member(content: bytes, member: UsageMember) -> bytes:
    """``content`` less the member and the comma that joined it to its neighbour."""
    before, after = content[: member.start].rstrip(), content[member.end :]
    if before.endswith(b","):
        return before[:-1] + after
    return before + after.lstrip().removeprefix(b",")


def with_null_member(content: bytes, member: UsageMember) -> bytes:
    """``content`` with the member's value replaced by ``null``."""
    return content[: member.value_start] + b"null" + content[member.end :]


def with_cached(content: bytes, member: UsageMember, cached: int) -> bytes:
    """``content`` whose usage tells so many cached tokens, at most the prompt's."""
    counts = member.counts.with_cached(cached)
    if counts == member.counts:
        return content
    usage = json.loads(content[member.value_start : member.end])
    details = usage.get("prompt_tokens_details")
    usage["prompt_tokens_details"] = {
        **(details if isinstance(details, dict) else {}),
        "cached_tokens": counts.cached,
    }
    told = json.dumps(usage, separators=(",", ":")).encode()
    return content[: member.value_start] + told + content[member.end :]


def _closing_brace(content: bytes, start: int) -> int | None:
    depth = 0
    for brace in _BRACE.finditer(content, start):
        depth += 1 if brace[0] == b"{" else -1
        if depth == 0:
            return brace.end()
    return None


def _counts(usage: dict[str, Any]) -> TokenCounts:
    """In the words of any API. Anthropic's tells tokens of the prompt beside those that were cached."""
    if "input_tokens" in usage:
        beside = [_whole(usage.get(name)) for name in _BESIDE_INPUT]
        prompt = _whole(usage["input_tokens"]) + sum(beside)
        details, cached, completion = usage.get("input_tokens_details"), beside[0], usage.get("output_tokens")
    else:
        prompt = _whole(usage.get("prompt_tokens"))
        details, cached, completion = usage.get("prompt_tokens_details"), 0, usage.get("completion_tokens")
    if isinstance(details, dict):
        cached = _whole(details.get("cached_tokens"))
    return TokenCounts(prompt, min(cached, prompt), _whole(completion))


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
