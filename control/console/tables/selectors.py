"""Which documents are shown, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.errors import InvalidInput

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Selector:
    """Labels that must be so (``equal``, which control knows), must not, must be there, must not be there."""

    equal: dict[str, str] = field(default_factory=dict)
    unequal: tuple[tuple[str, str], ...] = ()
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def matches(self, document: Document) -> bool:
        """Whether the document's labels are as wanted."""
        labels = document["metadata"].get("labels") or {}
        return (
            all(labels.get(key) == value for key, value in self.equal.items())
            and all(labels.get(key) != value for key, value in self.unequal)
            and all(key in labels for key in self.present)
            and not any(key in labels for key in self.absent)
        )


def parse_selector(text: str) -> Selector:
    """``a=b,c!=d,e,!f`` as kubectl reads it. Raises ``InvalidInput``."""
    equal: dict[str, str] = {}
    unequal, present, absent = [], [], []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if "!=" in part:
            key, _, value = part.partition("!=")
            unequal.append((key, value))
        elif "=" in part:
            key, _, value = part.replace("==", "=", 1).partition("=")
            if equal.setdefault(key, value) != value:
                raise InvalidInput(f"-l: {key} cannot be two values at once", param="-l")
        elif part.startswith("!"):
            key = part[1:]
            absent.append(key)
        else:
            key = part
            present.append(key)
        if not key or any(character.isspace() for character in key):
            raise InvalidInput(f"-l: {part!r} is no selector; write a=b, a!=b, a or !a", param="-l")
    return Selector(equal, tuple(unequal), tuple(present), tuple(absent))


def sorted_by(documents: Sequence[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    """Ordered by a field like ``metadata.createdMs`` or ``{.status.phase}``; what has none comes first."""
    path = path.strip("{}")
    return sorted(documents, key=lambda one: _rank(at(one, path))) if path else list(documents)


def at(document: Any, path: str) -> Any:
    """What lies at a path like ``.status.phase``; None where nothing does."""
    for part in filter(None, path.split(".")):
        document = document.get(part) if isinstance(document, Mapping) else None
    return document


def _rank(value: Any) -> tuple[int, float, str]:
    """Nothing, then numbers, then texts."""
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, (int, float)):
        return (1, float(value), "")
    return (2, 0.0, str(value))
