"""Earlier specs of a resource: who wrote which, when, and what differed; so many for each, and nothing that
may be a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from common.resources import Endpoint, Resource
from common.store.port import Applied, Put, SpecRevision

REVISED = frozenset((Endpoint.__name__,))
"""Kinds of which earlier specs are kept."""
KEPT_REVISIONS = 10
"""Of each resource, the present one among them."""
LONGEST_SPEC_BYTES = 64 * 1024
MOST_PATHS, LONGEST_PATH = 20, 200
VARIABLES = "env"
"""The field with environments, which are left out of what is kept."""
_SECRET = re.compile(
    r"""^--?(?:[\w-]*[-_])?(?:token|key|secret|passwords?|credentials?)(?:=|$)
    |(?:secret|password|credential|token|(?:access|api)[_-]?key)["']?\s*[:=]""",
    re.IGNORECASE | re.VERBOSE,
)
"""Of words of a command line: ``--hf-token``, ``--api-key=x``, ``{"secret": "x"}``."""


@dataclass(frozen=True)
class Revised:
    """Revisions of the resource ``uid`` that a write adds; one that is there already stays."""

    uid: str
    revisions: tuple[SpecRevision, ...]


def revised_by(old: Resource | None, write: Put, applied: Applied[Resource], now_ms: int) -> Revised | None:
    """What a write adds to the history of its resource: the spec that it wrote, and the one before where that
    is not known. None where the spec is as it was, and of kinds of which none is kept."""
    new = applied.resource
    if new.kind not in REVISED or not write.by or applied.outcome == "unchanged":
        return None
    before = _spec_of(old) if old is not None else {}
    if old is not None and old.metadata.generation == new.metadata.generation:
        return None
    after = _spec_of(new)
    paths = tuple(_bounded(_differing("spec", before, after))) if old is not None else ()
    made = SpecRevision(new.metadata.generation, now_ms, write.by, write.role, paths, kept_spec(after))
    if old is None:
        return Revised(new.metadata.uid, (made,))
    earlier = SpecRevision(old.metadata.generation, 0, "", "", (), kept_spec(before))
    return Revised(new.metadata.uid, (earlier, made))


def kept_spec(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The spec without environments. None where it is too large, or a word of a command line may be a
    secret."""
    kept = _without_variables(spec)
    if any(_SECRET.search(word) for word in _words(kept)):
        return None
    return kept if len(json.dumps(kept)) <= LONGEST_SPEC_BYTES else None


def _spec_of(resource: Resource) -> dict[str, Any]:
    spec: dict[str, Any] = resource.to_dict()["spec"]
    return spec


def _without_variables(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_variables(value) if isinstance(value, Mapping) else value
        for name, value in spec.items()
        if name != VARIABLES
    }


def _words(value: object) -> Iterator[str]:
    """All texts of lists, wherever they are."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _words(inner)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, str):
                yield inner
            else:
                yield from _words(inner)


def _differing(path: str, old: object, new: object) -> Iterator[str]:
    """The paths of fields with other values; lists are compared as a whole, environments by their names."""
    if old == new:
        return
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        yield path
        return
    for name in dict.fromkeys((*old, *new)):
        yield from _differing(f"{path}.{name}", old.get(name), new.get(name))


def _bounded(paths: Iterator[str]) -> Iterator[str]:
    """As many as are kept, and that there are more."""
    for count, path in enumerate(paths):
        if count == MOST_PATHS:
            yield "…"
            return
        yield path[:LONGEST_PATH]
