"""Checks of single fields of a request body, with words that name the field by its path."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from common.errors import InvalidInput

_SHOWN_CHARACTERS = 40


def required(content: Mapping[str, Any], name: str, path: str = "") -> Any:
    """The field's value. Raises ``InvalidInput`` when it is missing or null."""
    if content.get(name) is None:
        where = f"{path}.{name}" if path else name
        raise InvalidInput(f"missing required parameter: {where}", "missing_required_parameter", where)
    return content[name]


def optional(
    content: Mapping[str, Any],
    name: str,
    good: Callable[[Any], bool],
    what: str,
    default: Any = None,
    path: str = "",
) -> Any:
    """The field's value, ``default`` where it is missing or null. Raises ``InvalidInput`` unless ``good``."""
    value = content.get(name)
    if value is None:
        return default
    if not good(value):
        wrong_type(f"{path}.{name}" if path else name, what, value)
    return value


def wrong_type(path: str, what: str, value: Any) -> NoReturn:
    """Raise ``InvalidInput`` that says what the field must be, and shows the beginning of what it is."""
    raise InvalidInput(f"{path} must be {what}, not {_shown(value)}", "invalid_type", path)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_filled_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    return is_whole(value) and value >= 0


def is_positive(value: Any) -> bool:
    return is_count(value) and value > 0


def _shown(value: Any) -> str:
    """The beginning of the value as JSON; lists and objects are not written out, however long they are."""
    if isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else "an object"
        return kind if value else f"{kind} without entries"
    shown = json.dumps(value[: _SHOWN_CHARACTERS + 1] if isinstance(value, str) else value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"
