"""What was charged, line by line: so much of a meter at such a price. Whole days come from the totals, the
rest of a day from the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.rating import PinnedPrice
from billing.store import bulk
from billing.store.columns import (
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
from billing.store.rows import price_of
from billing.store.schema import charge_totals, journal, prices_pinned, usage_events, usage_series


@dataclass(frozen=True)
class ChargeRow:
    """``quantity`` of ``meter`` was sold at ``price`` (None = none was found) for ``microcredits``: the sum
    of the lines of events, each of which was rounded."""

    group: Mapping[str, str]
    meter: str
    price: PinnedPrice | None
    quantity: int
    microcredits: int


async def add_up_charges(
    connection: AsyncConnection, group_by: Sequence[str], where: UsageFilter, limit: int | None = None
) -> list[ChargeRow]:
    """One row per combination of groups, meter and price, ordered by them; reversed events are left out."""
    dialect, spans = connection.dialect.name, spans_of(where)
    found = spans.rows(
        lambda: _of_days(dialect, group_by, where, spans),
        lambda from_ms, to_ms: _of_edge(dialect, group_by, where, from_ms, to_ms),
    )
    keys = [*(found.c[f"g{number}"] for number in range(len(group_by))), found.c.meter, found.c.price]
    sums = [sa.func.sum(found.c[name]) for name in ("quantity", "microcredits")]
    query = sa.select(*keys, *sums).group_by(*keys).order_by(*keys).limit(limit)
    query = query.having(sa.or_(*(one != 0 for one in sums)))
    rows = (await connection.execute(query)).all()
    prices = await _prices(connection, {row[-3] for row in rows})
    return [
        ChargeRow(
            {name: shown(name, row[place]) for place, name in enumerate(group_by)},
            row[-4],
            prices.get(row[-3]),
            int(row[-2]),
            int(row[-1]),
        )
        for row in rows
    ]


async def _prices(connection: AsyncConnection, ids: set[str]) -> dict[str, PinnedPrice]:
    found = await bulk.look_up(connection, prices_pinned, sorted(ids - {""}), "document")
    return {id_: price_of(document) for id_, document in found}


def _of_days(dialect: str, group_by: Sequence[str], where: UsageFilter, spans: Spans) -> Selected:
    source, table = of_days(dialect, charge_totals.c.day), charge_totals.c
    query = sa.select(
        *groups_of(source, group_by), table.meter, table.price, table.quantity, table.microcredits
    )
    query = query.join_from(charge_totals, usage_series, table.series == usage_series.c.id)
    return query.where(*spans.days(table.day), *source.held(where))


def _of_edge(dialect: str, group_by: Sequence[str], where: UsageFilter, from_ms: int, to_ms: int) -> Selected:
    source = of_events(dialect)
    posted = events_with_series().join(
        journal, sa.and_(journal.c.event_id == usage_events.c.id, journal.c.type == "usage")
    )
    entries, member = _entries(dialect)
    query = sa.select(
        *groups_of(source, group_by),
        member(2).label("meter"),
        sa.func.coalesce(member(4), "").label("price"),
        sa.cast(member(3), sa.BigInteger).label("quantity"),
        (-sa.cast(member(1), sa.BigInteger)).label("microcredits"),
    ).select_from(posted.join(entries, sa.true()))
    return query.where(
        member(2).is_not(None),
        *standing_between(from_ms, to_ms),
        *source.held(where),
    )


def _entries(dialect: str) -> tuple[Any, Any]:
    """The entries of a transaction as rows, and what makes the expression of an entry's nth member."""
    if dialect == "sqlite":
        rows = sa.func.json_each(journal.c.entries).table_valued("value", name="entries")
        return rows, lambda place: sa.func.json_extract(rows.c.value, f"$[{place}]")
    made = sa.func.jsonb_array_elements(sa.cast(journal.c.entries, sa.dialects.postgresql.JSONB))
    lateral = made.table_valued(sa.column("value", sa.dialects.postgresql.JSONB), name="entries").lateral()
    return lateral, lambda place: lateral.c.value[place].astext
