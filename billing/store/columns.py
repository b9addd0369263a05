"""What reports are grouped and filtered by, as SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from billing.store.schema import SERIES_SINCE_TAGS, usage_events, usage_series
from billing.store.series import ALL_OTHER, OTHER
from common.clock import rfc3339

Selected = sa.Select[*tuple[Any, ...]]
TAG = "tag:"
"""What a group begins with that is the value of a tag: ``tag:team``."""
USER = "user"
STEPS_MS = {"hour": 3600 * 1000, "minute": 60 * 1000}
"""Groups of time that only events know, and their lengths."""
GROUPS = (
    *("tenant", "project", "key", USER, "model", "adapter", "model_identity", "kind", "device_class"),
    *("endpoint", "task", "month", "day", *STEPS_MS),
)
MONTH_CHARACTERS = len("2026-03")
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class UsageFilter:
    """Which events count; unset = all. An event belongs to when it ended: ``from_ms <= end < to_ms``.
    What ended before ``born_ms`` was of others who had the names of tenant and project. ``among`` are further
    groups, tags (``tag:team``) too, each with the values that count."""

    tenant: str | None = None
    project: str | None = None
    key: str | None = None
    model: str | None = None
    model_identity: str | None = None
    from_ms: int | None = None
    born_ms: int = 0
    to_ms: int | None = None
    among: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def begin_ms(self) -> int:
        """The first moment that counts."""
        return max(self.from_ms or 0, self.born_ms)

    def values(self) -> dict[str, Sequence[str]]:
        """Every group that is held to some values."""
        named = ("tenant", "project", "key", "model", "model_identity")
        single = {name: (value,) for name in named if (value := getattr(self, name)) is not None}
        return {**self.among, **single}


@dataclass(frozen=True)
class Source:
    """Rows with a series, of days or of events. ``day`` is the column of the day, ``ended_ms`` of the end;
    None = it is told by days only. ``dialect`` is the database's."""

    dialect: str
    day: sa.ColumnElement[str]
    ended_ms: sa.ColumnElement[int] | None = None

    def column(self, group: str) -> sa.ColumnElement[str]:
        """What the rows of this group have in common."""
        if group == "day":
            return self.day
        if group == "month":
            return month_of(self.day)
        if group in STEPS_MS:
            assert self.ended_ms is not None
            return sa.cast(self.ended_ms - self.ended_ms % STEPS_MS[group], sa.Text)
        if group.startswith(TAG):
            return tag_of(self.dialect, usage_series.c.tags, group.removeprefix(TAG))
        name = "end_user" if group == USER else group
        if self.ended_ms is not None and name not in SERIES_SINCE_TAGS:
            return usage_events.c[name]
        return (
            sa.func.coalesce(usage_series.c[name], "") if self.ended_ms is not None else usage_series.c[name]
        )

    def held(self, where: UsageFilter) -> Iterator[sa.ColumnElement[bool]]:
        """The conditions of the filter, but for time."""
        for group, values in where.values().items():
            column = self.column(group)
            yield column == values[0] if len(values) == 1 else column.in_(list(values))


def month_of(day: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """The month of a day, ``2026-03``."""
    return sa.func.substr(day, 1, MONTH_CHARACTERS)


def tag_of(dialect: str, tags: sa.ColumnElement[str], name: str) -> sa.ColumnElement[str]:
    """The value of a tag in a column of them; empty where it is not among these."""
    if dialect == "sqlite":
        member = sa.func.json_each(tags).table_valued("key", "value")
        value = sa.select(member.c.value).where(member.c.key == name).scalar_subquery()
    else:
        value = sa.cast(tags, sa.dialects.postgresql.JSONB)[name].astext
    return sa.case(
        (sa.func.coalesce(tags, "") == "", ""),
        (tags == ALL_OTHER, OTHER),
        else_=sa.func.coalesce(value, ""),
    )


def of_days(dialect: str, day: sa.ColumnElement[str]) -> Source:
    """Totals, joined with their series."""
    return Source(dialect, day)


def of_events(dialect: str) -> Source:
    """``usage_events``, joined with the series that they name."""
    return Source(dialect, usage_events.c.day, usage_events.c.ended_ms)


def events_with_series() -> sa.Join:
    """Events and their series; the younger columns of an event that names none are NULL."""
    return sa.join(usage_events, usage_series, usage_events.c.series == usage_series.c.id, isouter=True)


def groups_of(source: Source, group_by: Sequence[str]) -> list[sa.Label[Any]]:
    """The columns of the groups, named by their places: ``g0``, ``g1`` and so on."""
    return [source.column(name).label(f"g{number}") for number, name in enumerate(group_by)]


def standing_between(from_ms: int, to_ms: int) -> tuple[sa.ColumnElement[bool], ...]:
    """The conditions that hold events to those that ended then and were not reversed."""
    return (
        usage_events.c.reversed_ms.is_(None),
        usage_events.c.ended_ms >= from_ms,
        usage_events.c.ended_ms < to_ms,
    )


def shown(group: str, value: str) -> str:
    """The value as a report shows it."""
    return f"{rfc3339(int(value))[:16]}Z" if group in STEPS_MS else value


def day_text(days: int) -> str:
    """The day, so many after the epoch, as the database writes it."""
    return rfc3339(days * DAY_MS)[:10]


@dataclass(frozen=True)
class Spans:
    """A span of time as whole days (numbers since the epoch, the last one not included; None = open) and what
    is left of it at either end, in milliseconds."""

    first_day: int
    last_day: int | None
    edges: tuple[tuple[int, int], ...]

    def days(self, column: sa.ColumnElement[str]) -> Iterator[sa.ColumnElement[bool]]:
        """The conditions that hold a column of days to the whole ones."""
        yield column >= day_text(self.first_day)
        if self.last_day is not None:
            yield column < day_text(self.last_day)

    def rows(self, of_days: Callable[[], Selected], of_edge: Callable[[int, int], Selected]) -> sa.Subquery:
        """All rows of the span: those of its whole days, and those of each edge (from, to)."""
        parts = [of_edge(*edge) for edge in self.edges]
        if self.last_day is None or self.last_day > self.first_day or not parts:
            parts.insert(0, of_days())
        return sa.union_all(*parts).subquery() if len(parts) > 1 else parts[0].subquery()


def spans_of(where: UsageFilter, *, by_events: bool = False) -> Spans:
    """``from_ms <= end < to_ms``, cut at midnights; ``by_events``: all of it is an edge."""
    from_ms, to_ms = where.begin_ms, where.to_ms
    if by_events:
        return Spans(0, 0, ((from_ms, _END_MS if to_ms is None else to_ms),))
    first = -(-from_ms // DAY_MS)
    if to_ms is None:
        edge = ((from_ms, first * DAY_MS),)
        return Spans(first, None, edge if from_ms % DAY_MS else ())
    last = to_ms // DAY_MS
    if last < first:
        return Spans(first, first, ((from_ms, to_ms),))
    edges = ((from_ms, first * DAY_MS), (last * DAY_MS, to_ms))
    return Spans(first, last, tuple(edge for edge in edges if edge[0] < edge[1]))


_END_MS = 2**62
