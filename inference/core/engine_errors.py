"""An engine's error answers, told in our own terms."""

from __future__ import annotations

import json
import re
from typing import Any

from common.errors import ComputilityError, ContextExceeded, EngineFailed, InvalidInput, Unavailable

_VALIDATION_MESSAGE = re.compile(r"'msg': (['\"])(.*?)\1[,}]")
_KEY_REFUSED = frozenset({401, 403})
_RETRIED_4XX = _KEY_REFUSED | {404, 408, 429}


def is_retryable(status: int) -> bool:
    """Whether another replica may do better: it failed, is full, or has not loaded the model (yet)."""
    return status >= 500 or status in _RETRIED_4XX


def error_from_engine(status: int, body: bytes, input_field: str) -> ComputilityError:
    """The error for the client. ``input_field`` is what the request calls its prompt."""
    error = _error_object(body)
    if status >= 500:
        return EngineFailed("the engine failed to answer; try again")
    if status in _KEY_REFUSED:
        return EngineFailed("the engine does not know this gateway's key; an administrator has to look")
    if is_retryable(status):
        return Unavailable("no replica can serve this model right now; try again")
    message = str(error.get("message") or f"the engine refused the request with status {status}")
    param = error.get("param")
    param = param.removeprefix("body.") if isinstance(param, str) else None
    detail = _VALIDATION_MESSAGE.search(message)
    if detail is not None:
        message = f"{param}: {detail[2]}" if param else detail[2]
    if param == "input_tokens" or "maximum context length" in message:
        return ContextExceeded(message, param=input_field)
    if "max_model_len" in message:
        return ContextExceeded(message, param=param)
    return InvalidInput(message, param=param)


def error_in_stream(event: bytes | None, input_field: str) -> ComputilityError:
    """The error that ended a stream: the engine's own ``event``, or (None) that it broke off."""
    status = _error_object(event or b"").get("code")
    if event is None or not isinstance(status, int) or is_retryable(status):
        return EngineFailed("the engine broke while it answered; what was delivered is billed")
    return error_from_engine(status, event, input_field)


def _error_object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    error = content.get("error", content) if isinstance(content, dict) else None
    return error if isinstance(error, dict) else {}
