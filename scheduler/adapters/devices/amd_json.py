"""What ``amd-smi ... --json`` prints, as data.

Older versions print a bare list with plain values, newer ones ``{"gpu_data": [...]}`` with
``{"value": 196592, "unit": "MB"}``; both write ``"N/A"`` for what is not there, and some leave commas behind
the last entry.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from common.errors import SetupError
from common.units import GIB, MIB
from common.vocabulary import TEXT_CHARACTERS, one_line
from scheduler.adapters.devices.facts import whole

Entry = Mapping[str, Any]

_TRAILING_COMMA = re.compile(r",(\s*[\]}])")
_MEMORY_UNITS = {"": MIB, "MB": MIB, "MIB": MIB, "GB": GIB, "GIB": GIB, "B": 1}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)")


def parse_entries(text: str, command: str) -> dict[int, Entry]:
    """One entry per GPU by its number; entries without a number of their own are left out. Raises
    ``SetupError`` naming the line that is no JSON, or the first entry where none is a GPU's."""
    start = re.search(r"^[^\S\n]*[\[{]", text, re.MULTILINE)
    if start is None:
        raise SetupError(f"`{command}` prints no JSON: {text.strip()[:80]!r}")
    content = _decode(text, start.start(), command)
    if isinstance(content, dict):
        content = next((value for value in content.values() if isinstance(value, list)), [content])
    numbers = [whole(entry.get("gpu")) if isinstance(entry, dict) else None for entry in content]
    counts = Counter(numbers)
    entries: dict[int, Entry] = {
        number: entry
        for number, entry in zip(numbers, content, strict=True)
        if number is not None and number >= 0 and counts[number] == 1
    }
    if content and not entries:
        raise SetupError(f"`{command}`: entry 0 is no GPU, or one that is there twice")
    return entries


def _decode(text: str, start: int, command: str) -> Any:
    decoder = json.JSONDecoder()
    try:
        return decoder.raw_decode(text[start:].lstrip())[0]
    except (ValueError, RecursionError):
        pass
    try:
        return decoder.raw_decode(_TRAILING_COMMA.sub(r"\1", text[start:]).lstrip())[0]
    except json.JSONDecodeError as error:
        line = text[:start].count("\n") + error.lineno
        raise SetupError(f"`{command}`, line {line}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise SetupError(f"`{command}` prints JSON that cannot be read: {error}") from error


def pick(entry: object, *paths: str) -> Any:
    """The first value that is there under one of the dotted paths; None for ``"N/A"`` and nothing. A text is
    one line that can be stored."""
    for path in paths:
        value = entry
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value not in (None, "", "N/A"):
            return one_line(value[:TEXT_CHARACTERS]) if isinstance(value, str) else value
    return None


def number(entry: object, *paths: str) -> int | None:
    """Like ``pick``, for a number with or without a unit; rounded."""
    value = pick(entry, *paths)
    if isinstance(value, dict):
        value = value.get("value")
    match = _SIZE.match(str(value).strip())
    return whole(match[1]) if match else None


def memory_bytes(entry: object, *paths: str) -> int | None:
    """Like ``pick``, for memory; a number without a unit is in MiB, which the tool calls MB."""
    value = pick(entry, *paths)
    unit = str(value.get("unit") or "") if isinstance(value, dict) else ""
    match = _SIZE.match(str(value.get("value") if isinstance(value, dict) else value).strip())
    factor = _MEMORY_UNITS.get((unit or (match[2] if match else "")).upper())
    return round(float(match[1]) * factor) if match and factor else None
