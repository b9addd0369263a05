"""JSON as somebody may send it: what is right, with one accident of every kind at every place."""

from collections.abc import Iterator
from typing import Any

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    2,
    -1,
    2.5,
    "",
    "x",
    [],
    ["x"],
    [1],
    [None],
    [[]],
    {},
    {"x": 1},
)
_GONE = object()


def each_changed(value: Any) -> Iterator[Any]:
    """The value, and the same with each part of it gone or replaced by each of ``ODD``."""
    yield value
    yield from ODD
    yield from _inside(value)


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, one in value.items():
            for other in _others(one):
                yield {name: kept for name, kept in ({**value, key: other}).items() if kept is not _GONE}
    elif isinstance(value, list):
        for place, one in enumerate(value):
            for other in _others(one):
                rest = [other] if other is not _GONE else []
                yield [*value[:place], *rest, *value[place + 1 :]]


def _others(value: Any) -> Iterator[Any]:
    yield _GONE
    yield from ODD
    yield from _inside(value)
