"""An engine's error answers, told in our own terms."""

from __future__ import annotations

import json
import re
from typing import Any

from common.errors import ComputilityError, ContextExceeded, EngineFailed, InvalidInput, Unavailable
from common.vocabulary import quoted, shortened
from inference.core.messages import odd_role

REFUSED = "engine_refused"
"""The code of a request that an engine fails on, though it goes on serving others."""

_KEY_REFUSED = frozenset({401, 403})
_RETRIED_4XX = _KEY_REFUSED | {404, 408, 429}
_GATEWAY_STATUS = frozenset({502, 503, 504})
_MESSAGE_CHARACTERS = 500
_READ_CHARACTERS = 8192
"""Of an engine's message: it may quote all that a client sent, and is searched for what it says."""

_VALIDATION_MESSAGE = re.compile(r"'msg': (['\"])(.*?)\1[,}]", re.DOTALL)
_PLACE = re.compile(r"'loc': (?:'([^']*)'|\(([^)]*)\))")
_SUBJECT = re.compile(r"[a-z]+(?:_[a-z]+)+\b|[a-z]+(?= must\b)")
"""The field that a message begins with: ``min_p must be …``, ``n must be …``."""
_TYPE_NAME = re.compile(
    r"^[A-Z]\w*$|[\[\](){}]|^(?:function-|lax-|json-|is-)|^(?:str|int|float|bool|list|dict)$"
)
_INNER_WORDS = re.compile(
    r"https?://\S*pydantic\S*|\b[A-Z][a-z]+[A-Z]\w*(?:Param|Params|Input|Iterator|Error|Exception)\b"
    r"|\bUnion\[|\bIterable\[|Traceback|For further information visit"
)
_ADVICE = "see the messages, stop words, sampling options and structured output of the request"


def is_retryable(status: int) -> bool:
    """Whether another replica may do better: it failed, is full, or has not loaded the model (yet)."""
    return status >= 500 or status in _RETRIED_4XX


def may_be_the_request(status: int) -> bool:
    """Whether the request itself may be what the engine failed on: to be asked, then, is the engine's health.

    A status that a dying or full engine answers with says nothing of the request.
    """
    return status >= 500 and status not in _GATEWAY_STATUS


def refused_by_engine() -> InvalidInput:
    """The error for a request that an engine fails on and outlives: to send it again would not help."""
    return InvalidInput(
        f"the engine cannot handle something in this request, though it goes on serving others; {_ADVICE}",
        code=REFUSED,
    )


def error_from_engine(
    status: int, body: bytes, input_field: str, prompt: memoryview | bytes = b""
) -> ComputilityError:
    """The error for the client. ``input_field`` is what the request calls its prompt, which is looked at
    where the engine does not say what is wrong: templates of models raise for a role without naming it."""
    error = _error_object(body)
    if status >= 500:
        return EngineFailed("the engine failed to answer; try again")
    if status in _KEY_REFUSED:
        return EngineFailed("the engine does not know this gateway's key; an administrator has to look")
    if is_retryable(status):
        return Unavailable("no replica can serve this model right now; try again")
    message = _message_of(error) or f"the engine refused the request with status {status}"
    param = error.get("param")
    if param == "input_tokens" or "maximum context length" in message:
        return ContextExceeded(_plain(message, input_field), param=input_field)
    place = _path(_place_in(message) or (param if isinstance(param, str) else "")) or _subject(message)
    place = place or odd_role(prompt)
    text = _plain(message, place)
    if "max_model_len" in message:
        return ContextExceeded(text, param=place or None)
    return InvalidInput(text, param=place or None)


def status_in_stream(event: bytes | None) -> int | None:
    """The status that an engine's error event tells; None when it tells none, or there is no event."""
    status = _error_object(event or b"").get("code")
    return status if isinstance(status, int) and not isinstance(status, bool) else None


def error_in_stream(event: bytes | None, input_field: str, healthy: bool = False) -> ComputilityError:
    """The error that ended a stream: the engine's own ``event``, or (None) that it broke off.

    ``healthy``: the engine goes on serving others, so what it failed on is the request.
    """
    status = status_in_stream(event)
    if event is None or status is None or is_retryable(status):
        if healthy and status is not None and may_be_the_request(status):
            return refused_by_engine()
        return EngineFailed("the engine broke while it answered; what was delivered is billed")
    return error_from_engine(status, event, input_field)


def _message_of(error: dict[str, Any]) -> str:
    message = error.get("message")
    if not message:
        return ""
    return message[:_READ_CHARACTERS] if isinstance(message, str) else quoted(message)


def _plain(message: str, place: str) -> str:
    """The message without the names of classes, links and lists of what a library tried."""
    detail = _VALIDATION_MESSAGE.search(message)
    if detail is not None and detail[2].strip():
        said = detail[2].removeprefix("Value error, ").replace("Input should be", "must be")
        message = f"{place}: {said}" if place else said
    if _INNER_WORDS.search(message):
        where = place or "something in the request"
        message = f"{where} has a form that the engine does not take; {_ADVICE}"
    return shortened(message, _MESSAGE_CHARACTERS)


def _place_in(message: str) -> str:
    """Where the first validation error of a message lies, dotted; empty when it does not say."""
    found = _PLACE.search(message)
    if found is None:
        return ""
    if found[2] is None:
        return found[1]
    return ".".join(part.strip(" '\"") for part in found[2].split(","))


def _subject(message: str) -> str:
    """The field that a message is about, where it begins with its name; empty where it does not."""
    found = _SUBJECT.match(message)
    return shortened(found[0], 80) if found else ""


def _path(dotted: str) -> str:
    """``messages[0].content`` for ``body.messages.0.SomeParam.content``: no names of types, indexes in
    brackets."""
    steps = [step for step in dotted.removeprefix("body.").split(".") if step and step != "body"]
    path = ""
    for step in steps:
        if step.isascii() and step.isdigit():
            path += f"[{step}]"
        elif not _TYPE_NAME.search(step):
            path += f".{step}" if path else step
    return shortened(path, 80)


def _error_object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = content.get("error", content) if isinstance(content, dict) else None
    return error if isinstance(error, dict) else {}
