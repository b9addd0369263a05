"""What came of one try at a line: its outcome, or that it is to be tried again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import InvalidInput
from common.strict_json import parse_json
from common.vocabulary import shortened

WAITS = frozenset((408, 425, 429, 503, 529))
"""Statuses of an answer that says: later."""
BROKE = frozenset((401, 500, 502, 504))
"""Statuses of an answer that another try may better. Whether a key is in force is known before a line is
asked for: a gateway that does not know it has yet to hear of it."""
PAUSED = "paused"
"""The code of an answer where somebody has stopped the key, project, tenant or model, until it is resumed."""
WHY_CHARACTERS = 200
"""So much is told of what keeps a batch waiting."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 60.0


@dataclass(frozen=True)
class Answer:
    """What a gateway said of a line. ``is_told``: it knows the line, and says so; what does not is no answer
    of a gateway to it. ``content`` is None where it is longer than is kept. ``event``: the usage events that
    are to be billed with it, as JSON; empty = none."""

    status: int
    content: bytes | None
    is_told: bool
    request_id: str = ""
    event: str = ""
    retry_after_seconds: float = 0.0


@dataclass(frozen=True)
class Again:
    """To be tried again, not before so many seconds have passed. ``counts``: as one of the tries that a line
    has."""

    after_seconds: float
    counts: bool
    why: str


@dataclass(frozen=True)
class Final:
    """The end of a line: an answer, or why there is none."""

    is_good: bool
    response: Mapping[str, Any] | None
    error: Mapping[str, Any] | None


def judge(answer: Answer | None, tries: int, most_tries: int) -> Again | Final:
    """What to do about an answer; None where none came. ``tries``: how often it was tried, this one
    included."""
    if answer is None:
        return Again(0.0, False, "no gateway answers")
    if not answer.is_told:
        return Again(0.0, False, f"what answers with {answer.status} is no gateway that knows of batches")
    if answer.content is None:
        return failed(
            "answer_too_large", "the answer was made, and is billed, but it is too large to be kept"
        )
    body = _object(answer.content)
    if answer.status in WAITS:
        return Again(answer.retry_after_seconds, False, _why(answer, body))
    if _code(body) == PAUSED:
        return Again(LONGEST_PAUSE_SECONDS, False, _why(answer, body))
    if (answer.status in BROKE or body is None) and tries < most_tries:
        return Again(answer.retry_after_seconds, True, _why(answer, body))
    if body is None:
        return failed("answer_not_readable", "what the engine answered is no JSON object")
    response = {"status_code": answer.status, "request_id": answer.request_id, "body": body}
    return Final(answer.status < 400, response, None)


def failed(code: str, message: str) -> Final:
    """The end of a line that has no answer."""
    return Final(False, None, {"code": code, "message": message})


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        told = parse_json(content)
    except InvalidInput:
        return None
    return told if isinstance(told, dict) else None


def _code(body: Mapping[str, Any] | None) -> object:
    error = (body or {}).get("error")
    return error.get("code") if isinstance(error, dict) else None


def _why(answer: Answer, body: Mapping[str, Any] | None) -> str:
    error = (body or {}).get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return shortened(message, WHY_CHARACTERS) if isinstance(message, str) else f"status {answer.status}"


def pause_seconds(refusals: int, asked_seconds: float) -> float:
    """How long to wait after so many refusals in a row, of which the last asked for so much."""
    doubled = FIRST_PAUSE_SECONDS * 2.0 ** min(refusals - 1, 16)
    return min(LONGEST_PAUSE_SECONDS, max(doubled, asked_seconds))


def result_line(id_: str, custom_id: str, end: Final) -> str:
    """The line of the file of answers or errors."""
    told = {"id": id_, "custom_id": custom_id, "response": end.response, "error": end.error}
    return json.dumps(told, separators=(",", ":"))
