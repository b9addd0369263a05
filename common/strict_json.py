"""JSON as the standard has it: what Python's parser takes beyond that is refused with its place."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections import Counter
from typing import Any, NoReturn

from common.errors import InvalidInput
from common.vocabulary import shortened

MAX_DIGITS = 300
"""Of a whole number: what passes can be made a float."""
_SHOWN_CHARACTERS = 80
_HALF = re.compile("[\ud800-\udfff]")

_Place = tuple["_Place | None", str]
"""A place in a document: where its list or object stands, and the step from there."""


def parse_json(raw: bytes | str, what: str = "the body", code: str = "") -> Any:
    """The value. Raises ``InvalidInput`` naming the line, or what is wrong with it.

    Refused are ``NaN`` and ``Infinity``, numbers that no float holds, the same key twice in an object, halves
    of surrogate pairs, and what is nested too deeply to read.
    """
    try:
        text = raw.removeprefix(BOM_UTF8).decode() if isinstance(raw, bytes) else raw
        content = _DECODER.decode(text)
        if "\\u" in text or not isinstance(raw, bytes):
            _refuse_halves(content, what, code)
        return content
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidInput(f"{what} is not JSON: {where}: {error.msg}", code, where) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{what} is not UTF-8 at byte {error.start + 1}", code) from error
    except RecursionError as error:
        raise InvalidInput(f"{what} is not JSON: nested too deeply", code) from error
    except ValueError as error:
        raise InvalidInput(f"{what} is not JSON: {error}", code) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{shortened(text, _SHOWN_CHARACTERS)} is too large for a number")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key in content if counts[key] > 1)
        raise ValueError(f"{shortened(json.dumps(twice), _SHOWN_CHARACTERS)} stands twice in one object")
    return content


_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_int=_whole, parse_float=_float, object_pairs_hook=_object
)


def _refuse_halves(content: object, what: str, code: str) -> None:
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = f"U+{ord(error.object[error.start]):04X}"
        place = _place_of_half(content)
        where = f"{place} in {what}" if place else what
        raise InvalidInput(
            f"{where} holds {found}, half of a surrogate pair, which is no character", code, place or None
        ) from error


def _place_of_half(content: object) -> str:
    """The path of the first text that is no whole text, such as ``messages[0].content``; empty at the top."""
    pending: list[tuple[_Place | None, object]] = [(None, content)]
    while pending:
        place, value = pending.pop()
        if isinstance(value, str) and _has_half(value):
            return _path(place)
        if isinstance(value, dict):
            if any(_has_half(key) for key in value):
                return _path(place)
            pending.extend(((place, f".{key}"), value[key]) for key in reversed(value))
        elif isinstance(value, list):
            pending.extend(((place, f"[{n}]"), value[n]) for n in reversed(range(len(value))))
    return ""


def _path(place: _Place | None) -> str:
    steps: list[str] = []
    while place is not None:
        place, step = place
        steps.append(step[: _SHOWN_CHARACTERS + 1])
    return shortened("".join(reversed(steps)).removeprefix("."), _SHOWN_CHARACTERS)


def _has_half(text: str) -> bool:
    return _HALF.search(text) is not None
