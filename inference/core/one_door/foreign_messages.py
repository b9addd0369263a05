"""Answers in Anthropic's API by those who serve external models, made to look like those of engines.

Their streams tell tokens of the prompt with the first event, and those of the answer with the last but one.
In between, what was delivered is estimated, as of other providers, and told as our engines do: in a comment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from common.compact_json import compact
from inference.core.apis.events import RUNNING_USAGE
from inference.core.apis.wires import named_event
from inference.core.one_door.foreign import MOST_TOKENS, ForeignStream, error_told, is_count
from inference.core.two_legs import BYTES_PER_TOKEN

_NOT_TOLD = "the provider told no usage"
_OF_PROMPT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_OF_ANSWER = "output_tokens"
_PARTS = ("delta", "content_block")
_MESSAGE = ("id", "type", "role", "content", "stop_reason", "stop_sequence")
_EVENTS: Mapping[str, tuple[str, ...]] = {
    "message_start": ("type", "message"),
    "content_block_start": ("type", "index", "content_block"),
    "content_block_delta": ("type", "index", "delta"),
    "content_block_stop": ("type", "index"),
    "message_delta": ("type", "delta", "usage"),
    "message_stop": ("type",),
    "ping": ("type",),
}
"""Events, and their members: guards know where texts are in them. Others are left out."""
_TEXTS = ("text", "thinking", "partial_json")


def foreign_message(
    content: bytes, model: str, prompt: int | None, most: int = MOST_TOKENS
) -> tuple[bytes, bool]:
    """As ``foreign_answer``, of a message: its usage stands last, behind all that a model wrote. Raises
    ``ValueError`` for what is none."""
    told = json.loads(content)
    if not isinstance(told, dict):
        raise ValueError("no object")
    usage = _usage(told.pop("usage", None), {}, most)
    is_told = usage is not None
    if usage is None and prompt is not None:
        parts = told.get("content")
        size = sum(_size(part) for part in parts if isinstance(part, dict)) if isinstance(parts, list) else 0
        usage = {"input_tokens": prompt, _OF_ANSWER: -(-size // BYTES_PER_TOKEN)}
    known = {name: told[name] for name in _MESSAGE if name in told}
    return compact({**known, "model": model, "usage": usage}).encode(), is_told


class ForeignMessages(ForeignStream):
    """A stream of messages. ``prompt``: tokens of it until they are told, estimated."""

    def __init__(self, model: str, prompt: int, estimates: bool, most: int = MOST_TOKENS) -> None:
        super().__init__()
        self._most = most
        self._model, self._estimates = model, estimates
        self._begun: Mapping[str, int] = {"input_tokens": prompt}
        self._text_bytes = 0

    def end(self) -> bytes:
        return b""

    def _made(self, content: dict[str, Any]) -> bytes:
        kind = content["type"]
        if kind == "error":
            raise ValueError("an error")
        if kind not in _EVENTS:
            return b""
        content = {name: content[name] for name in _EVENTS[kind] if name in content}
        if kind == "message_start":
            content["message"] = self._begun_by(content["message"])
        elif kind == "message_delta":
            usage = _usage(content.pop("usage", None), self._begun, self._most)
            self.told |= usage is not None
            if usage is None and self._estimates:
                usage = {**self._begun, _OF_ANSWER: self._written}
            if usage is not None:
                content["usage"] = usage
        elif kind == "message_stop":
            if not (self.told or self._estimates):
                return self._failed(_NOT_TOLD)
            self.ended = True
        else:
            self._text_bytes += sum(_size(content[part]) for part in _PARTS if part in content)
        counts = f"{sum(self._begun.values())} {self._written}"
        return f"event: {kind}\ndata: {compact(content)}\n{RUNNING_USAGE} {counts}\n\n".encode()

    @property
    def _written(self) -> int:
        """Tokens of the answer until now, estimated."""
        return -(-self._text_bytes // BYTES_PER_TOKEN)

    def _begun_by(self, message: dict[str, Any]) -> dict[str, Any]:
        """The message as it begins: nothing is in it yet."""
        usage = message.get("usage")
        told = usage if isinstance(usage, dict) else {}
        counts = {name: told[name] for name in _OF_PROMPT if is_count(told.get(name))}
        if "input_tokens" in counts and sum(counts.values()) <= self._most:
            self._begun = counts
        known = {name: message[name] for name in _MESSAGE if name in message}
        return {**known, "content": [], "model": self._model, "usage": {**self._begun, _OF_ANSWER: 0}}

    def _error(self, message: str) -> bytes:
        return named_event("error", error_told(message))


def _usage(told: object, begun: Mapping[str, int], most: int) -> Mapping[str, int] | None:
    """Tokens of the whole message; those of the prompt may have been told before. None where they are not."""
    if not isinstance(told, dict) or not is_count(told.get(_OF_ANSWER)):
        return None
    counts = {name: told[name] for name in _OF_PROMPT if is_count(told.get(name))}
    prompt = counts if "input_tokens" in counts else begun
    counts = {**prompt, _OF_ANSWER: told[_OF_ANSWER]}
    return counts if prompt and sum(counts.values()) <= most else None


def _size(part: Any) -> int:
    """Bytes of what a model wrote in a part of an answer."""
    texts = [part[name] for name in _TEXTS if isinstance(part.get(name), str)]
    if isinstance(part.get("input"), dict) and part["input"]:
        texts.append(compact(part["input"]))
    return sum(len(text.encode(errors="replace")) for text in texts)
