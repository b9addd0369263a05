"""Numbers over time that outlive a restart, in named series: a port, and where it is kept."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from common.db import Database
from common.store.schema import samples

Sample = tuple[int, float]
"""Milliseconds since the epoch, and the value then."""


class SampleLog(Protocol):
    """Bounded by time. Raises ``Unavailable`` when what it is kept in cannot be reached."""

    async def add(self, series: str, at_ms: int, value: float) -> None:
        """Keep a value; one that the series has at that time stays."""
        ...

    async def since(self, series: str, start_ms: int) -> Sequence[Sample]:
        """Values at ``start_ms`` and later, the oldest first."""
        ...

    async def forget_before(self, end_ms: int) -> None:
        """Drop what is older, of all series."""
        ...


class MemorySampleLog:
    """Implements ``SampleLog``: for unit tests."""

    def __init__(self) -> None:
        self._series: dict[str, dict[int, float]] = {}

    async def add(self, series: str, at_ms: int, value: float) -> None:
        self._series.setdefault(series, {}).setdefault(at_ms, value)

    async def since(self, series: str, start_ms: int) -> Sequence[Sample]:
        found = sorted(self._series.get(series, {}).items())
        return found[bisect_left(found, (start_ms, float("-inf"))) :]

    async def forget_before(self, end_ms: int) -> None:
        for known in self._series.values():
            for at_ms in [at_ms for at_ms in known if at_ms < end_ms]:
                del known[at_ms]


class SqlSampleLog:
    """Implements ``SampleLog`` in SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, series: str, at_ms: int, value: float) -> None:
        row = {"series": series, "at_ms": at_ms, "value": value}
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        async with self._database.write() as connection:
            await connection.execute(insert(samples).values(row).on_conflict_do_nothing())

    async def since(self, series: str, start_ms: int) -> Sequence[Sample]:
        query = sa.select(samples.c.at_ms, samples.c.value).where(samples.c.series == series)
        async with self._database.read() as connection:
            rows = await connection.execute(
                query.where(samples.c.at_ms >= start_ms).order_by(samples.c.at_ms)
            )
            return [(at_ms, value) for at_ms, value in rows]

    async def forget_before(self, end_ms: int) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.delete(samples).where(samples.c.at_ms < end_ms))
