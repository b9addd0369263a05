"""Budgets in SQL: what counts against them, and what gateways hold of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.budgets import BudgetIndex, Terms
from billing.core.leases import Ask, Lease, renewed
from billing.store import bulk
from billing.store.books import readable_terms
from billing.store.schema import budget_leases, budget_totals
from common.clock import SYSTEM_CLOCK, Clock
from common.db import Database
from common.resources import Budget
from common.store.kept import KeptList
from common.store.port import Store

ASKED_TOGETHER = 500
"""Budgets in one question to the database."""
KEPT_MS = 24 * 3_600_000
"""So long a lease that is over is remembered, in case that a report of before comes late."""


@dataclass(frozen=True)
class Wanted:
    """What a holder says and wants of one period of a budget."""

    terms: Terms
    period: str
    ask: Ask


@dataclass(frozen=True)
class Renewed:
    """The answer: the lease, what is spent of the period, and what all other holders have open."""

    lease: Lease
    spent: int
    others: int


@dataclass(frozen=True)
class Spending:
    """What a period of a budget has come to, in the budget's unit: ``held`` is in leases now."""

    spent: int = 0
    held: int = 0


class Budgets:
    """The budgets of ``store``, with their counts in ``database``. Posting adds to these in its own
    transaction."""

    def __init__(self, database: Database, store: Store, clock: Clock = SYSTEM_CLOCK) -> None:
        self._database = database
        self._kept = KeptList(store, Budget)
        self._clock = clock
        self._turn = asyncio.Lock()
        self._known: tuple[object, BudgetIndex] = ((), BudgetIndex())
        self._unknown: set[str] = set()

    async def index(self) -> BudgetIndex:
        """All budgets as the store has them now. One that cannot be read is none, and keeps nobody from
        posting."""
        async with self._turn:
            found = await self._kept.now()
            state = tuple((one.metadata.uid, one.metadata.resource_version) for one in found)
            if state != self._known[0]:
                self._known = state, BudgetIndex(readable_terms(found))
            return self._known[1]

    async def renew(self, holder: str, wanted: Sequence[Wanted]) -> list[Renewed]:
        """Take a holder's report and grant what there is, all in one transaction. Durable when it returns."""
        now_ms = self._clock.now_ms()
        answers: dict[int, Renewed] = {}
        in_order = sorted(range(len(wanted)), key=lambda at: (wanted[at].terms.id, wanted[at].period))
        async with self._database.write() as connection:
            for at in in_order:
                answers[at] = await _renew(connection, holder, wanted[at], now_ms)
        return [answers[at] for at in range(len(wanted))]

    async def end(self, holders: Sequence[str]) -> None:
        """These processes are dead, and all that they had used is posted."""
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(budget_leases).where(budget_leases.c.holder.in_(holders)).values(open=0)
            )

    async def spending(self, budgets: Collection[Terms], at_ms: int) -> Mapping[str, Spending]:
        """What the periods of ``at_ms`` have come to, by the ids of their budgets."""
        periods = {terms.id: (terms.period_at(at_ms), terms) for terms in budgets}
        now_ms, found = self._clock.now_ms(), dict[str, Spending]()
        async with self._database.read() as connection:
            totals: list[sa.Row[Any]] = []
            leases: list[sa.Row[Any]] = []
            for some in _together(sorted(periods)):
                names = sorted({periods[id_][0] for id_ in some})
                table = budget_totals.c
                of_now = sa.select(budget_totals).where(table.budget.in_(some), table.period.in_(names))
                totals += (await connection.execute(of_now)).all()
                leases += (await connection.execute(_open_leases(some, names, now_ms))).all()
        held = {(row.budget, row.period): int(row.open) for row in leases}
        spent = {(row.budget, row.period): row for row in totals}
        for id_, (period, terms) in periods.items():
            row = spent.get((id_, period))
            of_unit = int(getattr(row, terms.unit)) if row is not None else 0
            found[id_] = Spending(of_unit, held.get((id_, period), 0))
        return found

    async def tidy(self, known: Collection[str]) -> None:
        """Forget what is of budgets that are gone and were gone the last time, too (one that is made
        meanwhile is not among ``known``), and leases that are long over."""
        over = budget_leases.c.expires_ms < self._clock.now_ms() - KEPT_MS
        unknown: set[str] = set()
        async with self._database.write() as connection:
            for table in (budget_totals, budget_leases):
                ids = (await connection.execute(sa.select(table.c.budget).distinct())).scalars()
                unknown.update(id_ for id_ in ids if id_ not in known)
                gone = table.c.budget.in_(sorted(unknown & self._unknown))
                await connection.execute(sa.delete(table).where(gone))
            await connection.execute(sa.delete(budget_leases).where(over))
        self._unknown = unknown


def _together(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), ASKED_TOGETHER):
        yield ids[start : start + ASKED_TOGETHER]


def _open_leases(
    budgets: Sequence[str], periods: Sequence[str], now_ms: int
) -> sa.Select[tuple[str, str, int]]:
    table = budget_leases.c
    total = sa.func.sum(table.open).label("open")
    return (
        sa.select(table.budget, table.period, total)
        .where(table.expires_ms > now_ms, table.budget.in_(budgets), table.period.in_(periods))
        .group_by(table.budget, table.period)
    )


async def _renew(connection: AsyncConnection, holder: str, wanted: Wanted, now_ms: int) -> Renewed:
    """Renew one lease; the row of the period's total is the lock of all its leases."""
    terms, place = wanted.terms, (wanted.terms.id, wanted.period)
    await bulk.insert(connection, budget_totals, [(*place, 0, 0, 0)], bulk.IGNORE)
    query = sa.select(budget_totals.c[terms.unit]).where(
        budget_totals.c.budget == place[0], budget_totals.c.period == place[1]
    )
    spent = int((await connection.execute(query.with_for_update())).scalar_one())
    of_period = sa.select(budget_leases).where(
        budget_leases.c.budget == place[0], budget_leases.c.period == place[1]
    )
    rows = (await connection.execute(of_period)).all()
    own = next((row for row in rows if row.holder == holder), None)
    others = sum(int(row.open) for row in rows if row.holder != holder and row.expires_ms > now_ms)
    before = Lease(own.open, own.sequence, own.change, own.expires_ms) if own is not None else None
    lease = renewed(before, wanted.ask, terms.limit, spent, others, now_ms)
    if before is None or lease.sequence != before.sequence:
        row = (*place, holder, lease.open, lease.sequence, lease.change, lease.expires_ms)
        await bulk.insert(connection, budget_leases, [row], _REPLACE)
    return Renewed(lease, spent, others)


_REPLACE = (
    "ON CONFLICT (budget, period, holder) DO UPDATE SET open = excluded.open, sequence = excluded.sequence, "
    "change = excluded.change, expires_ms = excluded.expires_ms"
)
