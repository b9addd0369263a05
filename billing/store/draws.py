"""Allotments in SQL: posting takes of them, and a reversal gives back, in the transaction of the usage."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.allotments import COVERED, Allotment, Draw, Taken, draw, give_back, in_order
from billing.core.events import UsageEvent
from billing.core.ledger import Transaction
from billing.core.products import Order
from billing.store import bulk
from billing.store.schema import allotments, orders, usage_events
from billing.store.volumes import Rated


async def cover(
    connection: AsyncConnection, batch: Sequence[Rated]
) -> tuple[Sequence[Rated], Mapping[str, Sequence[Draw]]]:
    """The batch with a line for each allotment that an event takes of; and what it takes, by the ids of
    events. What is posted already takes nothing. The allotments stay taken until the transaction ends; for
    tenants without any it is one question.
    """
    held = await _open_of(connection, {event.tenant for event, _, _ in batch})
    if not held:
        return batch, {}
    ids = [event.id for event, _, _ in batch if event.tenant in held]
    known = dict(await bulk.look_up(connection, usage_events, ids, "digest"))
    taken = {terms.id: was for of_tenant in held.values() for terms, was in of_tenant.items()}
    before = dict(taken)
    in_turn = {tenant: in_order(of_tenant) for tenant, of_tenant in held.items()}
    covered: list[Rated] = []
    drawn: dict[str, Sequence[Draw]] = {}
    for event, lines, digest in batch:
        if event.tenant in held and event.id not in known:
            draws = draw(event, lines, in_turn[event.tenant], taken)
            if draws:
                drawn[event.id] = draws
                lines = (*lines, *(one.line for one in draws))
        covered.append((event, lines, digest))
    await _note(connection, before, taken)
    return covered, drawn


async def return_draws(connection: AsyncConnection, event: UsageEvent, usage: Transaction) -> Sequence[Draw]:
    """Give back what a posted event has taken of allotments; what they are given."""
    lines = [entry.line for entry in usage.entries if entry.line and entry.line.meter.startswith(COVERED)]
    ids = sorted({line.price.book for line in lines if line.price})
    if not ids:
        return []
    query = _allotments().where(allotments.c.id.in_(ids))
    found = {row.id: row for row in await connection.execute(query)}
    taken = {id_: Taken(row.used, row.carried) for id_, row in found.items()}
    before, draws = dict(taken), []
    for line in lines:
        assert line.price is not None
        row = found[line.price.book]
        draws.append(give_back(_terms(row), event, line, taken, row.ended_ms is not None))
    await _note(connection, before, taken)
    return draws


async def _open_of(
    connection: AsyncConnection, tenants: Collection[str]
) -> Mapping[str, Mapping[Allotment, Taken]]:
    """The allotments that are not over and not used up, by tenant."""
    mine = sa.and_(allotments.c.tenant.in_(sorted(tenants)), allotments.c.used < allotments.c.granted)
    held: defaultdict[str, dict[Allotment, Taken]] = defaultdict(dict)
    for row in await connection.execute(_allotments().where(mine, allotments.c.ended_ms.is_(None))):
        held[row.tenant][_terms(row)] = Taken(row.used, row.carried)
    return held


def _allotments() -> sa.Select[tuple[object, ...]]:
    """In the order of their ids, so that two writers never wait for each other in a circle."""
    query = sa.select(allotments, orders.c.document).join_from(
        allotments, orders, allotments.c.id == orders.c.id
    )
    return query.order_by(allotments.c.id).with_for_update(of=allotments)


def _terms(row: sa.Row[tuple[object, ...]]) -> Allotment:
    return Order.from_dict(json.loads(row.document)).allotment


async def _note(connection: AsyncConnection, before: Mapping[str, Taken], after: Mapping[str, Taken]) -> None:
    for id_, taken in sorted(after.items()):
        if taken != before[id_]:
            change = sa.update(allotments).where(allotments.c.id == id_)
            await connection.execute(change.values(used=taken.used, carried=taken.carried))
