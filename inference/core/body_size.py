"""How much a body of a request may hold, told from its bytes where that is quicker."""

from __future__ import annotations

import re

from common.errors import InvalidInput, TooLarge

MAX_NESTING = 64
"""Lists and objects within each other."""
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""One that does not end goes to the end of the body, so that no byte is looked at twice."""


def check_values(raw: bytes, most: int) -> None:
    """Raise ``TooLarge`` for more values than ``most``."""
    if _values_at_most(raw) > most and _values(raw) > most:
        raise TooLarge(f"the body holds more than {most} values")


def check_nesting(raw: bytes, content: object) -> None:
    """Raise ``InvalidInput`` where ``content``, which ``raw`` says, nests too deeply."""
    if raw.count(b"{") + raw.count(b"[") > MAX_NESTING:
        _check_levels(content)


def _values_at_most(raw: bytes) -> int:
    """No body holds more values than this: one for every comma and bracket, also those within strings."""
    return raw.count(b",") + raw.count(b"{") + raw.count(b"[")


def _values(raw: bytes) -> int:
    return _values_at_most(_STRING.sub(b"", raw))


def _check_levels(content: object) -> None:
    level, depth = [content], 0
    while level:
        depth += 1
        if depth > MAX_NESTING:
            raise InvalidInput(
                f"the body nests lists and objects more than {MAX_NESTING} deep", code="invalid_json"
            )
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(one for one in value.values() if isinstance(one, dict | list))
            elif isinstance(value, list):
                inner.extend(one for one in value if isinstance(one, dict | list))
        level = inner
