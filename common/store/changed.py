"""Which fields a write changed, by their paths: never what stands in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from pydantic import BaseModel

from common.resources import Resource
from common.vocabulary import shortened

MOST_PATHS = 20
"""So many are named."""
_NAME_CHARACTERS = 80


def changed_paths(old: Resource, new: Resource) -> tuple[str, ...]:
    """Paths like ``spec.roles[0].replicas`` where two states of a resource differ in what is written there,
    not in what controllers observed; the first ``MOST_PATHS``."""
    return tuple(islice(_paths_of(old, new), MOST_PATHS))


def _paths_of(old: Resource, new: Resource) -> Iterator[str]:
    yield from _differences("spec", old.spec, new.spec)
    for name in ("labels", "annotations", "owner"):
        yield from _differences(f"metadata.{name}", getattr(old.metadata, name), getattr(new.metadata, name))


def _differences(path: str, old: object, new: object) -> Iterator[str]:
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
        yield path


def _below(path: str, name: object) -> str:
    return f"{path}.{shortened(str(name), _NAME_CHARACTERS)}"
