"""Adding up usage in SQL: whole days from the totals, what is left of a day from the events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.events import METERS
from billing.store.schema import usage_events, usage_series, usage_totals
from common.clock import rfc3339

GROUPS = ("tenant", "project", "key", "model", "model_identity", "kind", "device_class", "day")
SUMS = (*METERS, "microcredits", "unpriced_lines")
_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class UsageFilter:
    """Which events count; unset = all. An event belongs to when it ended: ``from_ms <= end < to_ms``.
    What ended before ``born_ms`` was of others who had the names of tenant and project."""

    tenant: str | None = None
    project: str | None = None
    key: str | None = None
    model: str | None = None
    model_identity: str | None = None
    from_ms: int | None = None
    born_ms: int = 0
    to_ms: int | None = None


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


@dataclass(frozen=True)
class _Spans:
    """A span of time as whole days (numbers since the epoch, the last one not included; None = open) and what
    is left of it at either end, in milliseconds."""

    first_day: int
    last_day: int | None
    edges: tuple[tuple[int, int], ...]


async def add_up(connection: AsyncConnection, group_by: Sequence[str], where: UsageFilter) -> list[UsageRow]:
    """One row per combination of the group columns, ordered by them; reversed events are left out."""
    spans = _spans(max(where.from_ms or 0, where.born_ms), where.to_ms)
    parts = [_of_days(group_by, where, spans), *(_of_edge(group_by, where, *edge) for edge in spans.edges)]
    found = sa.union_all(*parts).subquery() if len(parts) > 1 else parts[0].subquery()
    groups = [found.c[name] for name in group_by]
    query = sa.select(*groups, *(_sum(found.c[name], name) for name in ("events", "requests", *SUMS)))
    query = query.group_by(*groups).order_by(*groups)
    if groups:
        query = query.having(sa.func.sum(found.c.events) > 0)
    return [
        UsageRow(
            group={name: row[name] for name in group_by},
            **{name: int(row[name]) for name in ("events", "requests", *SUMS)},
        )
        for row in (await connection.execute(query)).mappings()
    ]


def _spans(from_ms: int, to_ms: int | None) -> _Spans:
    """``from_ms <= end < to_ms``, cut at midnights."""
    first = -(-from_ms // _DAY_MS)
    if to_ms is None:
        edge = ((from_ms, first * _DAY_MS),)
        return _Spans(first, None, edge if from_ms % _DAY_MS else ())
    last = to_ms // _DAY_MS
    if last < first:
        return _Spans(first, first, ((from_ms, to_ms),))
    edges = ((from_ms, first * _DAY_MS), (last * _DAY_MS, to_ms))
    return _Spans(first, last, tuple(edge for edge in edges if edge[0] < edge[1]))


def _of_days(group_by: Sequence[str], where: UsageFilter, spans: _Spans) -> sa.Select[Any]:
    counted = usage_totals.c.events
    query = sa.select(
        *(usage_totals.c.day if name == "day" else usage_series.c[name] for name in group_by),
        _sum(counted, "events"),
        _sum(sa.case((usage_series.c.kind == "inference", counted), else_=0), "requests"),
        *(_sum(usage_totals.c[name], name) for name in SUMS),
    ).join_from(usage_totals, usage_series, usage_totals.c.series == usage_series.c.id)
    query = query.where(usage_totals.c.day >= _day(spans.first_day), *_named(usage_series, where))
    if spans.last_day is not None:
        query = query.where(usage_totals.c.day < _day(spans.last_day))
    return _grouped(query, group_by)


def _of_edge(group_by: Sequence[str], where: UsageFilter, from_ms: int, to_ms: int) -> sa.Select[Any]:
    query = sa.select(
        *(usage_events.c[name] for name in group_by),
        sa.func.count().label("events"),
        _sum(sa.case((usage_events.c.kind == "inference", 1), else_=0), "requests"),
        *(_sum(usage_events.c[name], name) for name in SUMS),
    ).where(
        usage_events.c.reversed_ms.is_(None),
        usage_events.c.ended_ms >= from_ms,
        usage_events.c.ended_ms < to_ms,
        *_named(usage_events, where),
    )
    return _grouped(query, group_by)


def _grouped(query: sa.Select[Any], group_by: Sequence[str]) -> sa.Select[Any]:
    return query.group_by(*(sa.text(str(number)) for number in range(1, len(group_by) + 1)))


def _day(days: int) -> str:
    return rfc3339(days * _DAY_MS)[:10]


def _sum(expression: sa.ColumnElement[int], name: str) -> sa.Label[int]:
    return sa.func.coalesce(sa.func.sum(expression), 0).label(name)


def _named(table: sa.Table, where: UsageFilter) -> Iterator[sa.ColumnElement[bool]]:
    for name in ("tenant", "project", "key", "model", "model_identity"):
        value = getattr(where, name)
        if value is not None:
            yield table.c[name] == value
