"""values.yaml as it explains itself: each value with the comment above it.

A comment that begins with ``# --`` describes a value; ``# @schema {…}`` adds to what its type says. A mapping
with such a comment is a value, one without is a section.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

DESCRIPTION, SCHEMA = "-- ", "@schema "


class Undescribed(Exception):
    """A value that nothing is said of."""


@dataclass(frozen=True)
class Value:
    """One value or section. ``children`` are those of a section; ``schema`` is what its comment adds."""

    path: tuple[str, ...]
    default: Any
    description: str = ""
    schema: dict[str, Any] = field(default_factory=dict)
    children: tuple[Value, ...] = ()

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def leaves(self) -> Iterator[Value]:
        """All values below, in order; itself where it is one."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()


def read_values(text: str) -> Value:
    """The root section. Raises ``Undescribed`` with the names of values without a description."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode)
    root = _section((), node, text.splitlines())
    missing = [leaf.name for leaf in root.leaves() if not leaf.description]
    if missing:
        raise Undescribed(", ".join(missing))
    return root


def _section(path: tuple[str, ...], node: yaml.MappingNode, lines: Sequence[str]) -> Value:
    children = tuple(_value((*path, key.value), key, value, lines) for key, value in node.value)
    return Value(path, None, children=children)


def _value(path: tuple[str, ...], key: yaml.Node, node: yaml.Node, lines: Sequence[str]) -> Value:
    description, schema = _comment(key, lines)
    if isinstance(node, yaml.MappingNode) and node.value and not description:
        return _section(path, node, lines)
    default = yaml.SafeLoader("").construct_document(node)
    return Value(path, default, description, schema)


def _comment(key: yaml.Node, lines: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """What the comment lines right above a key say."""
    said: list[str] = []
    for line in reversed(lines[: key.start_mark.line]):
        text = line.strip()
        if not text.startswith("#"):
            break
        said.insert(0, text[1:].strip())
    begins = [number for number, text in enumerate(said) if text.startswith(DESCRIPTION.strip())]
    if not begins:
        return "", {}
    said = said[begins[-1] :]
    schema: dict[str, Any] = next(
        (json.loads(text.removeprefix(SCHEMA)) for text in said if text.startswith(SCHEMA)), {}
    )
    words = [text for text in said if not text.startswith(SCHEMA)]
    return " ".join(words).removeprefix(DESCRIPTION).strip(), schema
