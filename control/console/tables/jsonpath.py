"""The part of kubectl's JSONPath that people use: fields, positions, ``[*]``, texts, ranges."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import InvalidInput

MAX_CHARACTERS = 4096
_PIECE = re.compile(r"\{([^{}]*)\}|([^{]+)|(.)", re.DOTALL)
_STEP = re.compile(r"\.\.|\.?\[\*\]|\.?\[(-?\d{1,9})\]|\.?\['((?:[^'\\]|\\.)*)'\]|\.([^.\[\]'\"]+)|\.\*")
_RANGE, _END = "range", "end"


@dataclass(frozen=True)
class _Part:
    """Text as it is, or the values at a path; ``inner`` is what a range does with each of them."""

    text: str = ""
    steps: tuple[Any, ...] | None = None
    inner: tuple[_Part, ...] | None = None


_EACH = object()
Pieces = Sequence[_Part | str]


class JsonPath:
    """A template like ``{range .items[*]}{.metadata.name}{"\\n"}{end}``. Raises ``InvalidInput``."""

    def __init__(self, template: str) -> None:
        if len(template) > MAX_CHARACTERS:
            raise InvalidInput(f"jsonpath: at most {MAX_CHARACTERS} characters", param="-o")
        template = template if "{" in template else f"{{{_with_dot(template)}}}"
        pieces = [_piece(found) for found in _PIECE.finditer(template)]
        self._parts, rest = _nested(pieces, inside=False)
        if rest:
            raise _wrong("{end} without {range}")

    def of(self, document: Any) -> str:
        """The text that the template makes of a document."""
        return "".join(_rendered(self._parts, document))


def _piece(found: re.Match[str]) -> _Part | str:
    """A part; ``range`` comes as a part with an empty inner, ``end`` as a word."""
    inside, text, stray = found.groups()
    if stray is not None:
        raise _wrong(f"{stray} that is not closed")
    if inside is None:
        return _Part(text=text)
    inside = inside.strip()
    if inside == _END:
        return _END
    if inside.startswith(('"', "'")):
        quoted = inside if inside[0] == '"' else '"' + inside[1:-1].replace('"', '\\"') + '"'
        try:
            return _Part(text=str(json.loads(quoted)))
        except ValueError as error:
            raise _wrong(inside) from error
    if inside.startswith(f"{_RANGE} "):
        return _Part(steps=_steps(inside.removeprefix(_RANGE).strip()), inner=())
    return _Part(steps=_steps(inside))


def _steps(path: str) -> tuple[Any, ...]:
    path = _with_dot(path.removeprefix("$").removeprefix("@"))
    steps: list[Any] = []
    position = 0 if path != "." else 1
    while position < len(path):
        found = _STEP.match(path, position)
        if found is None or found[0] == "..":
            raise _wrong(path)
        index, quoted, name = found.groups()
        if index is not None:
            steps.append(int(index))
        elif quoted is not None or name is not None:
            steps.append(re.sub(r"\\(.)", r"\1", quoted if name is None else name))
        else:
            steps.append(_EACH)
        position = found.end()
    return tuple(steps)


def _with_dot(path: str) -> str:
    return path if path.startswith((".", "[", "$", "@")) else f".{path}"


def _nested(pieces: Pieces, *, inside: bool) -> tuple[tuple[_Part, ...], Pieces]:
    """The parts up to the end of this range, and the pieces after it."""
    parts: list[_Part] = []
    while pieces:
        first, pieces = pieces[0], pieces[1:]
        if isinstance(first, str):
            if not inside:
                raise _wrong("{end} without {range}")
            return tuple(parts), pieces
        if first.inner is not None:
            inner, pieces = _nested(pieces, inside=True)
            first = _Part(steps=first.steps, inner=inner)
        parts.append(first)
    if inside:
        raise _wrong("{range} without {end}")
    return tuple(parts), pieces


def _rendered(parts: Sequence[_Part], document: Any) -> Iterator[str]:
    for part in parts:
        if part.steps is None:
            yield part.text
            continue
        found = _values(document, part.steps)
        if part.inner is None:
            yield " ".join(_text(value) for value in found)
        else:
            for value in found:
                yield from _rendered(part.inner, value)


def _values(document: Any, steps: Sequence[Any]) -> list[Any]:
    """What lies at a path; nothing where a field is missing."""
    values = [document]
    for step in steps:
        found: list[Any] = []
        for value in values:
            if step is _EACH:
                found += list(value.values()) if isinstance(value, dict) else _listed(value)
            elif isinstance(step, int):
                found += _listed(value)[step : step + 1 or None]
            elif isinstance(value, dict) and step in value:
                found.append(value[step])
        values = found
    return values


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _wrong(what: str) -> InvalidInput:
    return InvalidInput(
        f"jsonpath: {what} is not understood; write e.g. {{.items[*].metadata.name}} or "
        '{range .items[*]}{.metadata.name}{"\\n"}{end}',
        param="-o",
    )
