"""Which fields a write changed, by their paths. Of what stands in them only numbers and switches are told:
no secret is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from pydantic import BaseModel

from common.resources import Resource
from common.vocabulary import shortened

MOST_PATHS = 20
"""So many are named."""
_NAME_CHARACTERS = 80


@dataclass(frozen=True)
class FieldChange:
    """A field like ``spec.roles[0].replicas``; ``values`` is ``1 → 3`` where both are numbers (of no moment)
    or switches, else empty."""

    path: str
    values: str = ""

    def __str__(self) -> str:
        return f"{self.path} {self.values}".rstrip()


def changes_of(old: Resource, new: Resource) -> tuple[FieldChange, ...]:
    """Where two states of a resource differ in what is written there, not in what controllers observed; the
    first ``MOST_PATHS``."""
    return tuple(islice(_changes_of(old, new), MOST_PATHS))


def _changes_of(old: Resource, new: Resource) -> Iterator[FieldChange]:
    yield from _differences("spec", old.spec, new.spec)
    for name in ("labels", "annotations", "owner"):
        yield from _differences(f"metadata.{name}", getattr(old.metadata, name), getattr(new.metadata, name))


def _differences(path: str, old: object, new: object) -> Iterator[FieldChange]:
    if old == new:
        return
    if isinstance(old, BaseModel) and type(old) is type(new):
        for name, field in type(old).model_fields.items():
            yield from _differences(f"{path}.{field.alias or name}", getattr(old, name), getattr(new, name))
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            if name not in old or name not in new or old[name] != new[name]:
                yield from _differences(_below(path, name), old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{index}]", one, other)
    else:
        is_moment = path.endswith("Ms")
        plain = not is_moment and all(isinstance(value, bool | int | float) for value in (old, new))
        yield FieldChange(path, f"{_word(old)} → {_word(new)}" if plain else "")


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:.12g}"  # as YAML has them


def _below(path: str, name: object) -> str:
    return f"{path}.{shortened(str(name), _NAME_CHARACTERS)}"
