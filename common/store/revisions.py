"""Earlier specs of a resource: who wrote which, when, and what differed; so many for each, and nothing that
may be a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.resources import Endpoint, Resource
from common.store.authorship import Author
from common.store.port import Applied, SpecRevision

REVISED = frozenset((Endpoint.__name__,))
"""Kinds of which earlier specs are kept."""
KEPT_REVISIONS = 10
"""Of each resource, the present one among them."""
LONGEST_SPEC_BYTES = 64 * 1024
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


def revised_by(author: Author | None, applied: Applied[Resource], now_ms: int) -> Revised | None:
    """What a write adds to the history of its resource: the spec that it wrote, and the one before where that
    is not known. None where no key asked for it, where the spec is as it was, and of kinds of which none is
    kept."""
    new, old = applied.resource, applied.before
    if author is None or author.sort != "key" or new.kind not in REVISED:
        return None
    if applied.outcome not in ("created", "configured"):
        return None
    generation = new.metadata.generation
    paths = tuple(path for path in applied.changed if path.startswith("spec"))
    made = SpecRevision(generation, now_ms, author.name, author.tenant, paths, kept_spec(_spec_of(new)))
    if old is None:
        return Revised(new.metadata.uid, (made,))
    if old.metadata.generation == generation:
        return None
    earlier = SpecRevision(old.metadata.generation, 0, "", "", (), kept_spec(_spec_of(old)))
    return Revised(new.metadata.uid, (earlier, made))


def ended_by(applied: Sequence[Applied[Resource]]) -> list[str]:
    """The uids of resources that went, and their revisions with them."""
    return [
        one.resource.metadata.uid
        for one in applied
        if one.outcome == "deleted" and one.resource.kind in REVISED
    ]


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
