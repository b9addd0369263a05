"""Bounds on what the SQL store keeps: of whoever has most, the oldest rows go (``common.store.fairness``)."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from common.store.fairness import Group, allowances

PRUNE_EVERY = 64
"""A bound is looked at after so many writes, or a 64th of the rows (or bytes) that may be kept."""


@dataclass(frozen=True)
class Bound:
    """What may be kept of a table. ``group`` are the columns of whose a row is, tenant first; ``order`` grows
    with time; ``size`` counts bytes where these are bounded too."""

    group: tuple[sa.Column[str], sa.Column[str]]
    order: sa.Column[int]
    rows: int
    size: sa.Column[int] | None = None
    size_bytes: int = 0


class Pruner:
    """Keeps one table within its bound, in the transactions of those who write to it."""

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._rows = self._bytes = 0

    async def wrote(
        self, connection: AsyncConnection, rows: int = 1, size_bytes: int = 0
    ) -> dict[Group, int]:
        """Count what was written; once in a while drop what is too much. Returns whose rows were dropped, and
        the place of the newest of those."""
        bound = self._bound
        self._rows += rows
        self._bytes += size_bytes
        rows_due = self._rows >= max(PRUNE_EVERY, bound.rows // PRUNE_EVERY)
        if not rows_due and (bound.size is None or self._bytes < bound.size_bytes // PRUNE_EVERY):
            return {}
        self._rows = self._bytes = 0
        dropped: dict[Group, int] = {}
        weights = await self._weigh(connection)
        counts = {group: count for group, (count, _) in weights.items()}
        for group, allowed in allowances(counts, bound.rows).items():
            await self._cut(connection, group, self._newest(group, allowed), dropped)
        if bound.size is not None and sum(size for _, size in weights.values()) > bound.size_bytes:
            weights = await self._weigh(connection)
            sizes = {group: size for group, (_, size) in weights.items()}
            for group, allowed in allowances(sizes, bound.size_bytes).items():
                await self._cut(connection, group, self._newest_bytes(group, allowed), dropped)
        return dropped

    async def _weigh(self, connection: AsyncConnection) -> dict[Group, tuple[int, int]]:
        size = self._bound.size
        total = sa.literal(0) if size is None else sa.func.coalesce(sa.func.sum(size), 0)
        query = sa.select(*self._bound.group, sa.func.count(), total).group_by(*self._bound.group)
        rows = await connection.execute(query)
        return {(tenant, part): (int(count), int(sum_)) for tenant, part, count, sum_ in rows}

    async def _cut(
        self,
        connection: AsyncConnection,
        group: Group,
        oldest_kept: sa.Select[tuple[int]],
        dropped: dict[Group, int],
    ) -> None:
        order = self._bound.order
        oldest = await connection.scalar(oldest_kept)
        gone = self._of(group) if oldest is None else sa.and_(self._of(group), order < oldest)
        newest_gone = await connection.scalar(sa.select(sa.func.max(order)).where(gone))
        if newest_gone is not None:
            dropped[group] = max(newest_gone, dropped.get(group, newest_gone))
            await connection.execute(sa.delete(order.table).where(gone))

    def _newest(self, group: Group, count: int) -> sa.Select[tuple[int]]:
        """The place of the oldest of the group's newest ``count`` rows."""
        order = self._bound.order
        newest = sa.select(order.label("place")).where(self._of(group)).order_by(order.desc()).limit(count)
        return sa.select(sa.func.min(newest.subquery().c.place))

    def _newest_bytes(self, group: Group, size_bytes: int) -> sa.Select[tuple[int]]:
        """The place of the oldest of the group's newest rows that hold no more than so many bytes."""
        order = self._bound.order
        held = sa.func.sum(self._bound.size).over(order_by=order.desc())
        rows = sa.select(order.label("place"), held.label("held")).where(self._of(group)).subquery()
        return sa.select(sa.func.min(rows.c.place)).where(rows.c.held <= size_bytes)

    def _of(self, group: Group) -> sa.ColumnElement[bool]:
        tenant, part = self._bound.group
        return sa.and_(tenant == group[0], part == group[1])
