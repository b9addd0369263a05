"""Volume that prices go by: events get their places in a tenant's counts, one after the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.events import UsageEvent
from billing.core.rating import RatedLine, Rates
from billing.core.volume import Counter
from billing.store import bulk
from billing.store.schema import usage_events, volume_totals

Rated = tuple[UsageEvent, Sequence[RatedLine], str]
"""An event, its lines and its digest."""


async def rate_by_volume(
    connection: AsyncConnection, batch: Sequence[Rated], rates: Rates
) -> tuple[Sequence[Rated], set[str]]:
    """The batch with the lines that its events have after all that was counted before, each after the ones in
    front of it; and the ids of those that were given a place. What is posted already takes none.

    The counts stay taken until the transaction ends. Where no price goes by volume, nothing is read.
    """
    used = await take_counts(connection, ((event.tenant, lines) for event, lines, _ in batch))
    if not used:
        return batch, set()
    ids = [event.id for event, lines, _ in batch if any(_of(lines))]
    known = dict(await bulk.look_up(connection, usage_events, ids, "digest"))
    placed: set[str] = set()
    rated: list[Rated] = []
    for event, lines, digest in batch:
        if any(_of(lines)) and event.id not in known:
            lines = rates.lines(event, used[event.tenant])
            placed.add(event.id)
            for line in lines:
                if line.counter is not None:
                    used[event.tenant][line.counter] = line.before + line.quantity
        rated.append((event, lines, digest))
    return rated, placed


async def take_counts(
    connection: AsyncConnection, charged: Iterable[tuple[str, Iterable[RatedLine]]]
) -> Mapping[str, MutableMapping[Counter, int]]:
    """What the counts that lines of tenants go by have come to, by tenant; nobody else counts until the
    transaction ends. Whoever takes allotments, too, takes these first: so no two wait in a circle."""
    used: dict[str, dict[Counter, int]] = defaultdict(dict)
    for tenant, counter in sorted({(tenant, counter) for tenant, lines in charged for counter in _of(lines)}):
        used[tenant][counter] = await _take(connection, tenant, counter)
    return used


def _of(lines: Iterable[RatedLine]) -> Iterator[Counter]:
    return (line.counter for line in lines if line.counter is not None)


async def _take(connection: AsyncConnection, tenant: str, counter: Counter) -> int:
    """What is counted by now; nobody else counts until the transaction ends."""
    await bulk.insert(connection, volume_totals, [(tenant, counter, 0)], bulk.IGNORE)
    query = sa.select(volume_totals.c.quantity).where(
        volume_totals.c.tenant == tenant, volume_totals.c.counter == counter
    )
    return int((await connection.execute(query.with_for_update())).scalar_one())
