"""Adding up usage in SQL: whole days from the totals, what is left of a day from the events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.events import METERS
from billing.store.columns import (
    STEPS_MS,
    Selected,
    Spans,
    UsageFilter,
    events_with_series,
    groups_of,
    of_days,
    of_events,
    shown,
    spans_of,
    standing_between,
)
from billing.store.schema import usage_events, usage_series, usage_totals

SUMS = (*METERS, "microcredits", "unpriced_lines")
_COUNTED = ("events", "requests", *SUMS)


@dataclass(frozen=True)
class UsageRow:
    """Sums of one group. ``requests`` counts inference events, ``events`` all of them.

    ``prompt_tokens`` is the whole prompt, ``cached_tokens`` the part of it that came from a cache.
    """

    group: Mapping[str, str]
    events: int
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    trained_tokens: int
    device_seconds: int
    microcredits: int
    unpriced_lines: int


async def add_up(
    connection: AsyncConnection, group_by: Sequence[str], where: UsageFilter, limit: int | None = None
) -> list[UsageRow]:
    """One row per combination of the groups, ordered by them; reversed events are left out."""
    dialect = connection.dialect.name
    spans = spans_of(where, by_events=any(name in STEPS_MS for name in group_by))
    found = spans.rows(
        lambda: _of_days(dialect, group_by, where, spans),
        lambda from_ms, to_ms: _of_edge(dialect, group_by, where, from_ms, to_ms),
    )
    groups = [found.c[f"g{number}"] for number in range(len(group_by))]
    query = sa.select(*groups, *(_sum(found.c[name], name) for name in _COUNTED))
    query = query.group_by(*groups).order_by(*groups).limit(limit)
    if groups:
        query = query.having(sa.func.sum(found.c.events) > 0)
    return [
        UsageRow(
            group={name: shown(name, row[place]) for place, name in enumerate(group_by)},
            **{name: int(value) for name, value in zip(_COUNTED, row[len(group_by) :], strict=True)},
        )
        for row in await connection.execute(query)
    ]


def _of_days(dialect: str, group_by: Sequence[str], where: UsageFilter, spans: Spans) -> Selected:
    source, counted = of_days(dialect, usage_totals.c.day), usage_totals.c.events
    query = sa.select(
        *groups_of(source, group_by),
        _sum(counted, "events"),
        _sum(sa.case((usage_series.c.kind == "inference", counted), else_=0), "requests"),
        *(_sum(usage_totals.c[name], name) for name in SUMS),
    ).join_from(usage_totals, usage_series, usage_totals.c.series == usage_series.c.id)
    return _grouped(query.where(*spans.days(usage_totals.c.day), *source.held(where)), group_by)


def _of_edge(dialect: str, group_by: Sequence[str], where: UsageFilter, from_ms: int, to_ms: int) -> Selected:
    source = of_events(dialect)
    query = sa.select(
        *groups_of(source, group_by),
        sa.func.count().label("events"),
        _sum(sa.case((usage_events.c.kind == "inference", 1), else_=0), "requests"),
        *(_sum(usage_events.c[name], name) for name in SUMS),
    ).select_from(events_with_series())
    query = query.where(
        *standing_between(from_ms, to_ms),
        *source.held(where),
    )
    return _grouped(query, group_by)


def _grouped(query: Selected, group_by: Sequence[str]) -> Selected:
    return query.group_by(*(sa.text(str(number)) for number in range(1, len(group_by) + 1)))


def _sum(expression: sa.ColumnElement[int], name: str) -> sa.Label[int]:
    return sa.func.coalesce(sa.func.sum(expression), 0).label(name)
