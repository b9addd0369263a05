"""Outcomes: what a piece of work has brought, as its owner says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from billing.core.rating import digest_of
from billing.core.tags import (
    TAG_NAME_CHARACTERS,
    TAG_VALUE_CHARACTERS,
    check_tags,
    check_tags_size,
    tags_that_fit,
)
from common.errors import InvalidInput
from common.vocabulary import MAX_NUMBER, MAX_TIME_MS, odd_character, quoted

TASK = "task"
"""The tag by which requests say what task they are for."""
ID_CHARACTERS = 128
NAME_CHARACTERS = 64
MAX_COUNT = 10**6
"""Of one outcome; with the bound of outcomes in a day, sums of any length fit 64 bits."""
MAX_VALUE_MICROCREDITS = MAX_NUMBER
BEST_QUALITY_MILLIS = 1000


@dataclass(frozen=True)
class Work:
    """A piece of work: all usage of a tenant with this tag, like ``task`` ``T-42``."""

    tag: str
    value: str

    def __post_init__(self) -> None:
        path = TASK if self.tag == TASK else "tag"
        _check_text(path, self.tag, TAG_NAME_CHARACTERS)
        _check_text(path, self.value, TAG_VALUE_CHARACTERS)

    def __str__(self) -> str:
        return f"{self.tag}={self.value}"


@dataclass(frozen=True)
class Outcome:
    """``count`` times ``name`` came of a piece of work, worth ``value_microcredits`` together (negative = a
    loss). Raises ``InvalidInput`` that names the field.

    ``id`` is its owner's word for it: the same again is counted once. ``quality_millis``: from 0 to 1000 =
    best; None = not judged. ``at_ms``: when it came; None = when it is recorded. ``project`` empty = that of
    the work's usage, where it is one. ``tags`` are beside those that all usage of the work has.
    """

    id: str
    tenant: str
    work: Work
    name: str
    count: int = 1
    value_microcredits: int = 0
    quality_millis: int | None = None
    at_ms: int | None = None
    project: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_text("id", self.id, ID_CHARACTERS)
        _check_text("name", self.name, NAME_CHARACTERS)
        _check_whole("count", self.count, 1, MAX_COUNT)
        most = MAX_VALUE_MICROCREDITS
        _check_whole("value_microcredits", self.value_microcredits, -most, most)
        if self.quality_millis is not None:
            _check_whole("quality_millis", self.quality_millis, 0, BEST_QUALITY_MILLIS)
        if self.at_ms is not None:
            _check_whole("at", self.at_ms, 0, MAX_TIME_MS)
        check_tags(self.tags)
        check_tags_size("", self.own_tags)
        if self.tags.get(self.work.tag, self.work.value) != self.work.value:
            raise InvalidInput(f"tags.{self.work.tag}: differs from {self.work}", param="tags")

    def digest(self) -> str:
        """The same for outcomes of a tenant that say the same."""
        content: dict[str, Any] = {**vars(self), "work": vars(self.work), "tags": dict(self.tags)}
        return digest_of(content)

    @property
    def own_tags(self) -> Mapping[str, str]:
        """The tag of the work, and what it says beside it."""
        return {self.work.tag: self.work.value, **self.tags}

    def tags_with(self, shared: Mapping[str, str]) -> Mapping[str, str]:
        """The tags that it is reported by: its own, then those ``shared`` by all usage of the work, as many
        as there is room for."""
        own = self.own_tags
        return tags_that_fit("", {**own, **{name: shared[name] for name in shared if name not in own}})


def id_of(work: Work, name: str) -> str | None:
    """The id of an outcome that comes once of a task; None for other work, which has many of a name."""
    return f"{work.value}:{name}" if work.tag == TASK else None


def shared_tags(found: Iterable[Mapping[str, str]]) -> Mapping[str, str]:
    """The tags that all of these have, with the same value; none of none."""
    sets = [set(tags.items()) for tags in found]
    return dict(sorted(sets[0].intersection(*sets[1:]))) if sets else {}


def _check_text(path: str, value: object, characters: int) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{path}: must be text, and not empty", param=path)
    if len(value) > characters:
        raise InvalidInput(f"{path}: at most {characters} characters, not {len(value)}", param=path)
    odd = odd_character(value)
    if odd:
        raise InvalidInput(f"{path}: holds the character {odd}, which cannot be seen", param=path)


def _check_whole(path: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(
            f"{path}: must be a whole number from {least} to {most}, not {quoted(value)}", param=path
        )
