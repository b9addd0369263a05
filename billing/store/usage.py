"""Adding up usage in SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.events import METERS
from billing.store.schema import usage_events

GROUPS = ("tenant", "project", "key", "model", "model_identity", "kind", "device_class", "day")
SUMS = (*METERS, "microcredits", "unpriced_lines")


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


async def add_up(connection: AsyncConnection, group_by: Sequence[str], where: UsageFilter) -> list[UsageRow]:
    """One row per combination of the group columns, ordered by them; reversed events are left out."""
    groups = [usage_events.c[name] for name in group_by]
    query = (
        sa.select(
            *groups,
            sa.func.count().label("events"),
            _sum(sa.case((usage_events.c.kind == "inference", 1), else_=0), "requests"),
            *(_sum(usage_events.c[name], name) for name in SUMS),
        )
        .where(usage_events.c.reversed_ms.is_(None), *_conditions(where))
        .group_by(*groups)
        .order_by(*groups)
    )
    return [
        UsageRow(
            group={name: row[name] for name in group_by},
            **{name: int(row[name]) for name in ("events", "requests", *SUMS)},
        )
        for row in (await connection.execute(query)).mappings()
    ]


def _sum(expression: sa.ColumnElement[int], name: str) -> sa.Label[int]:
    return sa.func.coalesce(sa.func.sum(expression), 0).label(name)


def _conditions(where: UsageFilter) -> Iterator[sa.ColumnElement[bool]]:
    for name in ("tenant", "project", "key", "model", "model_identity"):
        value = getattr(where, name)
        if value is not None:
            yield usage_events.c[name] == value
    if where.born_ms:
        yield usage_events.c.ended_ms >= where.born_ms
    if where.from_ms is not None:
        yield usage_events.c.ended_ms >= where.from_ms
    if where.to_ms is not None:
        yield usage_events.c.ended_ms < where.to_ms
