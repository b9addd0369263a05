"""One line of a batch's file: what it asks for, and what is wrong with it, by its fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from common.errors import ComputilityError, InvalidInput
from common.strict_json import parse_json
from common.vocabulary import odd_character, quoted, shortened

CUSTOM_ID_CHARACTERS = 512
FIELDS = ("custom_id", "method", "url", "body")
CheckBody = Callable[[bytes], str]
"""Checks the JSON of a body, and gives the model that it names. Raises ``ComputilityError`` with the field in
``param``."""


@dataclass(frozen=True)
class LineProblem:
    """What is wrong with a line, from 1: ``param`` is the path of the field; empty = the line as a whole.
    Without ``line`` it is the file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True)
class LineRequest:
    """What a line asks for. ``body`` is JSON."""

    custom_id: str
    body: bytes
    model: str = ""


def read_request(content: bytes) -> LineRequest:
    """The request of a line that was checked."""
    told = json.loads(content.decode("utf-8-sig"))
    return LineRequest(told["custom_id"], json.dumps(told["body"]).encode())


def check_request(content: bytes, endpoint: str, check_body: CheckBody) -> LineRequest:
    """The request of a line. Raises ``InvalidInput`` with the field in ``param``."""
    told = parse_json(content, "the line", "invalid_json_line")
    if not isinstance(told, dict):
        raise InvalidInput("the line must be a JSON object", "invalid_json_line")
    for name in told:
        if name not in FIELDS:
            _refuse(shortened(name, 80), f"unknown; a line has {', '.join(FIELDS)}", "unknown_parameter")
    for name in FIELDS:
        if name not in told:
            _refuse(name, "required, but missing", "missing_required_parameter")
    custom_id = _custom_id(told["custom_id"])
    if told["method"] != "POST":
        _refuse("method", f"must be POST, not {quoted(told['method'])}", "invalid_method")
    if told["url"] != endpoint:
        why = f"must be {endpoint}, the batch's endpoint, not {quoted(told['url'])}"
        _refuse("url", why, "mismatched_endpoint")
    body = told["body"]
    if not isinstance(body, dict):
        _refuse("body", "must be a JSON object", "invalid_type")
    _refuse_streams(body)
    raw = json.dumps(body).encode()
    return LineRequest(custom_id, raw, _checked(raw, check_body))


def _custom_id(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= CUSTOM_ID_CHARACTERS:
        _refuse("custom_id", f"must be a text of 1-{CUSTOM_ID_CHARACTERS} characters", "invalid_custom_id")
    odd = odd_character(value)
    if odd:
        _refuse("custom_id", f"holds the character {odd}", "invalid_custom_id")
    return value


def _refuse_streams(body: Mapping[str, Any]) -> None:
    if body.get("stream"):
        _refuse("body.stream", "an answer in a file is no stream; leave it out", "unsupported_value")


def _checked(raw: bytes, check_body: CheckBody) -> str:
    try:
        return check_body(raw)
    except ComputilityError as error:
        path = f"body.{error.param}" if error.param else "body"
        raise InvalidInput(f"body: {error.message}", error.code, path) from error


def _refuse(name: str, message: str, code: str) -> NoReturn:
    raise InvalidInput(f"{name}: {message}", code, name)


class LineChecks:
    """Checks line after line; of what was seen it keeps no more than the ids."""

    def __init__(self, endpoint: str, check_body: CheckBody, most_problems: int) -> None:
        self._endpoint, self._check_body, self._most = endpoint, check_body, most_problems
        self._seen: dict[str, int] = {}
        self.lines = 0
        self.model = ""
        """Of the first line."""
        self.problems: list[LineProblem] = []
        self.problem_count = 0

    def look(self, number: int, content: bytes | None, most_bytes: int) -> None:
        """A line that is not blank; None where it has more than ``most_bytes``."""
        self.lines += 1
        if content is None:
            self.found(LineProblem("line_too_long", f"has more than {most_bytes} bytes", number))
            return
        try:
            request = check_request(content, self._endpoint, self._check_body)
        except InvalidInput as error:
            param = error.param if not (error.param or "").startswith("line ") else None
            self.found(LineProblem(error.code, error.message, number, param))
            return
        first = self._seen.setdefault(request.custom_id, number)
        if first != number:
            text = f"custom_id: {quoted(request.custom_id)} is that of line {first} already"
            self.found(LineProblem("duplicate_custom_id", text, number, "custom_id"))
        self.model = self.model or request.model

    def found(self, problem: LineProblem) -> None:
        """Something is wrong: it is counted, and kept while there is room."""
        self.problem_count += 1
        if len(self.problems) < self._most:
            self.problems.append(problem)
