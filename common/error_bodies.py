"""Error bodies of an HTTP API (in OpenAI's shape) as the errors that they stand for."""

from __future__ import annotations

import json

from common.errors import (
    ComputilityError,
    Conflict,
    ContextExceeded,
    EngineFailed,
    Forbidden,
    IdempotencyMismatch,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    Problem,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)

_BY_STATUS: dict[int, type[ComputilityError]] = {
    400: InvalidInput,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    409: Conflict,
    413: TooLarge,
    415: UnsupportedMediaType,
    422: IdempotencyMismatch,
    429: TooManyRequests,
    502: EngineFailed,
    503: Unavailable,
}


def error_from_body(status: int, text: str) -> ComputilityError:
    """The typed error that an HTTP status and an error body (in OpenAI's shape) stand for."""
    kind = _BY_STATUS.get(status, ComputilityError)
    try:
        content = json.loads(text)["error"]
        message, code = str(content["message"]), str(content.get("code") or "")
        param = content.get("param")
        problems = tuple(
            Problem(str(p["path"]), str(p["message"]), str(p.get("code", "invalid")))
            for p in content.get("problems", ())
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return kind(f"HTTP {status}: {text[:300] or 'no body'}")
    if kind is InvalidInput and code == "context_length_exceeded":
        kind = ContextExceeded
    return kind(message, code, param, problems)
