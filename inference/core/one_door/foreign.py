"""Answers of external models, made to look like those of engines: usage in each event, the model's name.

Providers tell usage at the end, if at all. Until then it is estimated, so that an answer which breaks off is
billed for what was delivered: a token for each four bytes of text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from inference.core.body import InferenceRequest
from inference.core.sse import DONE_EVENT, EventSplitter
from inference.core.two_legs import BYTES_PER_TOKEN

_NOT_TOLD = "the provider told no usage"
_FAILED = "the provider failed while it answered"
_BAD_GATEWAY = 502
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def about_prompt(request: InferenceRequest) -> int:
    """How many tokens a prompt is taken for where nobody counts them."""
    return max(1, -(-len(request.prompt) // BYTES_PER_TOKEN))


def foreign_answer(content: bytes, model: str, prompt: int | None) -> tuple[bytes, bool]:
    """An answer in one piece as an engine would give it, and whether the provider told its usage. ``prompt``:
    tokens of it where usage may be estimated; None = it may not be. Raises ``ValueError`` for what is no
    answer."""
    told = json.loads(content)
    if not isinstance(told, dict):
        raise ValueError("no object")
    usage = _usage(told.get("usage"))
    if usage is None and prompt is not None:
        choices = told.get("choices")
        texts = [_text(one.get("message") or one) for one in choices or () if isinstance(one, dict)]
        estimate = _told(prompt, sum(map(_about, texts)))
    else:
        estimate = None
    own = {"id": told.get("id", ""), "object": told.get("object", ""), "created": told.get("created", 0)}
    rest = {name: value for name, value in told.items() if name not in (*own, "model", "usage")}
    return _encode({**own, "model": model, "usage": usage or estimate, **rest}).encode(), usage is not None


class ForeignEvents:
    """A stream of an API like OpenAI's, event by event. ``told``: whether the provider told its usage;
    ``ended``: whether it came to its end."""

    def __init__(self, model: str, prompt: int, estimates: bool) -> None:
        self.told = self.ended = False
        self._model, self._prompt, self._estimates = model, prompt, estimates
        self._splitter = EventSplitter()
        self._half = b""
        self._usage: Mapping[str, Any] | None = None
        self._text_bytes: dict[int, int] = {}
        self._head: dict[str, Any] = {"id": "", "object": "", "created": 0}

    def feed(self, data: bytes) -> bytes:
        """What an engine would have sent. Raises ``EngineFailed`` for an event that is too long."""
        data, self._half = self._half + data, b""
        if data.endswith(b"\r"):
            data, self._half = data[:-1], b"\r"
        return b"".join(map(self._event, self._splitter.feed(data.replace(b"\r\n", b"\n"))))

    def end(self) -> bytes:
        """The same at the end of the connection; an end that was not told is none."""
        if not self.ended and self._usage is not None:
            return self._ending()
        return b""

    def _event(self, event: bytes) -> bytes:
        if self.ended:
            return b""
        lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
        if not lines:
            return event if event.startswith(b":") else b""
        data = b"".join(lines)
        if data == b"[DONE]":
            return self._ending()
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            return _error(_FAILED)
        if not isinstance(content, dict) or content.get("error") is not None:
            return _error(_FAILED)
        return self._chunk(content)

    def _chunk(self, content: dict[str, Any]) -> bytes:
        usage = _usage(content.pop("usage", None))
        if usage is not None:
            self._usage = usage
        for name in self._head:
            self._head[name] = content.pop(name, None) or self._head[name]
        choices, _ = content.pop("choices", None), content.pop("model", None)
        found = [one for one in choices or () if isinstance(one, dict)]
        return b"".join(self._choice(one, content) for one in found)

    def _choice(self, choice: dict[str, Any], rest: dict[str, Any]) -> bytes:
        index = choice.pop("index", 0)
        index = index if isinstance(index, int) else 0
        text = _text(choice.get("delta") or choice)
        self._text_bytes[index] = self._text_bytes.get(index, 0) + len(text.encode(errors="replace"))
        told = _told(self._prompt, -(-self._text_bytes[index] // BYTES_PER_TOKEN))
        choices = [{"index": index, **choice}]
        return _data({**self._head, "model": self._model, **rest, "choices": choices, "usage": told})

    def _ending(self) -> bytes:
        self.ended, self.told = True, self._usage is not None
        usage = self._usage
        if usage is None:
            if not self._estimates:
                return _error(_NOT_TOLD)
            made = sum(-(-size // BYTES_PER_TOKEN) for size in self._text_bytes.values())
            usage = _told(self._prompt, made)
        return _data({**self._head, "model": self._model, "choices": [], "usage": usage}) + DONE_EVENT


def _usage(told: object) -> Mapping[str, Any] | None:
    """Usage as engines tell it; None where it is none."""
    if not isinstance(told, dict):
        return None
    prompt, completion = told.get("prompt_tokens"), told.get("completion_tokens", 0)
    if not (_is_count(prompt) and _is_count(completion)):
        return None
    total = prompt + completion
    own = {"prompt_tokens": prompt, "total_tokens": total, "completion_tokens": completion}
    rest = {name: value for name, value in told.items() if name not in own and name.endswith("_details")}
    return {**own, **rest}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12


def _told(prompt: int, completion: int) -> Mapping[str, Any]:
    total = prompt + completion
    return {"prompt_tokens": prompt, "total_tokens": total, "completion_tokens": completion}


def _text(part: Mapping[str, Any]) -> str:
    """All that a model wrote in a part of an answer: text, thoughts, and calls of tools."""
    texts = [part.get(name) for name in ("content", "text", "reasoning_content", "reasoning", "refusal")]
    calls = part.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            texts += [function.get("name"), function.get("arguments")]
    return "".join(text for text in texts if isinstance(text, str))


def _about(text: str) -> int:
    return -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)


def _data(content: dict[str, Any]) -> bytes:
    return b"data: " + _encode(content).encode(errors="replace") + b"\n\n"


def _error(message: str) -> bytes:
    return _data({"error": {"message": message, "code": _BAD_GATEWAY}})
