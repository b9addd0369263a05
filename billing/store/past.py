"""Past events, page by page, in the order in which they ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence

import sqlalchemy as sa

from billing.store.schema import usage_events
from common.db import Database

PAGE = 500

Posted = tuple[str, int]
"""An event's document, and the micro-credits that it was charged."""


async def past_usage(
    database: Database, from_ms: int, to_ms: int, tenants: Collection[str] | None
) -> AsyncIterator[Sequence[Posted]]:
    """Events that ended from ``from_ms`` to before ``to_ms`` and are not reversed; of these tenants, None =
    of all. Each page is read by itself, so no transaction stays open between."""
    table = usage_events.c
    query = sa.select(table.ended_ms, table.id, table.document, table.microcredits)
    query = query.where(table.reversed_ms.is_(None), table.ended_ms >= from_ms, table.ended_ms < to_ms)
    if tenants is not None:
        query = query.where(table.tenant.in_(sorted(tenants)))
    query = query.order_by(table.ended_ms, table.id).limit(PAGE)
    after: tuple[int, str] | None = None
    while True:
        page = query if after is None else query.where(sa.tuple_(table.ended_ms, table.id) > after)
        async with database.read() as connection:
            rows = (await connection.execute(page)).all()
        if rows:
            yield [(row.document, int(row.microcredits)) for row in rows]
        if len(rows) < PAGE:
            return
        after = rows[-1].ended_ms, rows[-1].id
