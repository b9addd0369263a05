"""Answers of external models, made to look like those of engines: usage in each event, the model's name.

Providers tell usage at the end, if at all. Until then it is estimated, so that an answer which breaks off is
billed for what was delivered: a token for each four bytes of text.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from common.errors import EngineFailed
from inference.core.body import InferenceRequest
from inference.core.sse import DONE_EVENT, EVENT_LIMIT_BYTES, EventSplitter
from inference.core.two_legs import BYTES_PER_TOKEN

_NOT_TOLD = "the provider told no usage"
_FAILED = "the provider failed while it answered"
_BAD_GATEWAY = 502
MOST_TOKENS = 10**12
"""Of any answer. Usage of more than a request can have is none: nobody pays for a slip of the provider's."""
_ALIVE = b":\n\n"
_HEAD_CHARACTERS = 256
_REST = ("choices", "data", "system_fingerprint", "service_tier")
_OF_CHOICE = ("message", "delta", "text", "logprobs", "finish_reason", "stop_reason")
"""Members of answers and their choices: guards know where texts are in them. Others are left out."""
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def about_prompt(request: InferenceRequest) -> int:
    """How many tokens a prompt is taken for where nobody counts them."""
    return max(1, -(-len(request.prompt) // BYTES_PER_TOKEN))


def foreign_answer(
    content: bytes, model: str, prompt: int | None, most: int = MOST_TOKENS
) -> tuple[bytes, bool]:
    """An answer in one piece as an engine would give it, and whether the provider told its usage. ``prompt``:
    tokens of it where usage may be estimated; None = it may not be. ``most``: tokens that its usage may tell.
    Raises ``ValueError`` for what is no answer."""
    told = json.loads(content)
    if not isinstance(told, dict):
        raise ValueError("no object")
    usage = _usage(told.get("usage"), most)
    if usage is None and prompt is not None:
        choices = told.get("choices")
        texts = [_text(one.get("message") or one) for one in choices or () if isinstance(one, dict)]
        estimate = _told(prompt, sum(map(_about, texts)))
    else:
        estimate = None
    own = {"id": told.get("id", ""), "object": told.get("object", ""), "created": told.get("created", 0)}
    rest = {name: told[name] for name in _REST if name in told}
    if isinstance(rest.get("choices"), list):
        rest["choices"] = [_known(one) for one in rest["choices"]]
    return _encode({**own, "model": model, "usage": usage or estimate, **rest}).encode(), usage is not None


class ForeignStream(ABC):
    """A stream of a provider, event by event. ``told``: whether the provider told its usage; ``ended``:
    whether it came to its end, or failed: nothing more of it is read."""

    def __init__(self) -> None:
        self.told = self.ended = False
        self._splitter = EventSplitter()
        self._half = b""
        self._has_begun = False
        self._before_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """What an engine would have sent. Raises ``EngineFailed`` for an event that is too long, and for
        signs of life without end."""
        if not self._has_begun:
            self._before_bytes += len(data)
            if self._before_bytes > 2 * EVENT_LIMIT_BYTES:
                raise EngineFailed("the provider sends no answer, but signs of life without end")
        data, self._half = self._half + data, b""
        if data.endswith(b"\r"):
            data, self._half = data[:-1], b"\r"
        return b"".join(map(self._read, self._splitter.feed(data.replace(b"\r\n", b"\n"))))

    @abstractmethod
    def end(self) -> bytes:
        """The same at the end of the connection; an end that was not told is none."""

    @abstractmethod
    def _made(self, content: dict[str, Any]) -> bytes:
        """What an engine would have sent for the data of an event. May raise what reading JSON raises."""

    @abstractmethod
    def _error(self, message: str) -> bytes:
        """The event of an error."""

    def _done(self) -> bytes:
        """What ``[DONE]`` means; nothing, where an API has no such end."""
        return b""

    def _read(self, event: bytes) -> bytes:
        if self.ended:
            return b""
        data = b"".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if not data:  # a sign of life, which is none of an answer; what else it says is not passed on
            return _ALIVE if self._has_begun and event.startswith(b":") else b""
        try:
            made = self._done() if data == b"[DONE]" else self._made(json.loads(data))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return self._failed(_FAILED)
        self._has_begun |= bool(made)
        return made

    def _failed(self, message: str) -> bytes:
        self.ended = True
        return self._error(message)


class ForeignEvents(ForeignStream):
    """A stream of an API like OpenAI's. ``prompt``: tokens of all ``prompts`` together, estimated; each has
    so many ``choices``. ``most``: tokens that its usage may tell."""

    def __init__(
        self,
        model: str,
        prompt: int,
        estimates: bool,
        choices: int = 1,
        prompts: int = 1,
        most: int = MOST_TOKENS,
    ) -> None:
        super().__init__()
        self._model, self._prompt, self._estimates = model, prompt, estimates
        self._choices, self._each, self._most = choices * prompts, -(-prompt // prompts), most
        self._usage: Mapping[str, Any] | None = None
        self._text_bytes: dict[int, int] = {}
        self._head: dict[str, Any] = {"id": "", "object": "", "created": 0}

    def end(self) -> bytes:
        if not self.ended and self._usage is not None:
            return self._done()
        return b""

    def _made(self, content: dict[str, Any]) -> bytes:
        if content.get("error") is not None:
            raise ValueError("an error")
        usage = _usage(content.pop("usage", None), self._most)
        if usage is not None:
            self._usage = usage
        for name, before in self._head.items():
            self._head[name] = head_of(content.pop(name, None), before)
        found = [one for one in content.get("choices") or () if isinstance(one, dict)]
        return b"".join(map(self._choice, found))

    def _choice(self, choice: dict[str, Any]) -> bytes:
        index = choice.pop("index", None)
        index = 0 if index is None else index
        if not is_count(index) or index >= self._choices:
            raise ValueError("a choice that nobody asked for")
        text = _text(choice.get("delta") or choice)
        self._text_bytes[index] = self._text_bytes.get(index, 0) + len(text.encode(errors="replace"))
        told = _told(self._each, -(-self._text_bytes[index] // BYTES_PER_TOKEN))
        choices = [{**_known(choice), "index": index}]
        return _data({**self._head, "model": self._model, "choices": choices, "usage": told})

    def _done(self) -> bytes:
        self.told, usage = self._usage is not None, self._usage
        if usage is None:
            if not self._estimates:
                return self._failed(_NOT_TOLD)
            made = sum(-(-size // BYTES_PER_TOKEN) for size in self._text_bytes.values())
            usage = _told(self._prompt, made)
        self.ended = True
        return _data({**self._head, "model": self._model, "choices": [], "usage": usage}) + DONE_EVENT

    def _error(self, message: str) -> bytes:
        return _data(error_told(message))


def _known(choice: Any) -> dict[str, Any]:
    told = {name: choice[name] for name in _OF_CHOICE if name in choice}
    return {"index": choice.get("index", 0), **told}


def head_of(value: Any, before: Any) -> Any:
    """What an event says of its answer, which is told again with each choice: a short text or a number."""
    if isinstance(before, int):
        return value if is_count(value) else before
    return value[:_HEAD_CHARACTERS] if isinstance(value, str) and value else before


def error_told(message: str) -> dict[str, Any]:
    """An error as engines tell it."""
    return {"error": {"message": message, "code": _BAD_GATEWAY}}


def _usage(told: object, most: int) -> Mapping[str, Any] | None:
    """Usage as engines tell it; None where it is none."""
    if not isinstance(told, dict):
        return None
    prompt, completion = told.get("prompt_tokens"), told.get("completion_tokens", 0)
    if not (is_count(prompt) and is_count(completion)):
        return None
    total = prompt + completion
    if total > most:
        return None
    own = {"prompt_tokens": prompt, "total_tokens": total, "completion_tokens": completion}
    rest = {name: value for name, value in told.items() if name not in own and name.endswith("_details")}
    return {**own, **rest}


def is_count(value: object) -> bool:
    """Whether it is a number of tokens, or of the like."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_TOKENS


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
