"""Sums that are kept as usage is posted and reversed, so that a report reads days, not events."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.budgets import BudgetIndex, counted_ms, use_of
from billing.core.events import METERS, UsageEvent
from billing.core.ledger import Transaction
from billing.core.rating import PinnedPrice, RatedLine
from billing.store import bulk
from billing.store.rows import price_row
from billing.store.schema import (
    account_totals,
    budget_totals,
    charge_totals,
    prices_pinned,
    usage_series,
    usage_totals,
    volume_totals,
)
from billing.store.series import Columns, Place

_KNOWN_LIMIT = 100_000
_PLACES = {meter: number for number, meter in enumerate(METERS, start=1)}


class Sums:
    """What some transactions add to the totals; a reversal takes away what its usage had added. ``budgets``
    are those that they may count against."""

    def __init__(self, budgets: BudgetIndex) -> None:
        self._index = budgets
        self.series: dict[str, Columns] = {}
        self.prices: dict[str, PinnedPrice] = {}
        self.usage: dict[tuple[str, str], list[int]] = {}
        self.charges: dict[tuple[str, str, str, str], list[int]] = {}
        self.accounts: defaultdict[str, int] = defaultdict(int)
        self.volumes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.budgets: dict[tuple[str, str], list[int]] = {}

    def add(self, event: UsageEvent, transaction: Transaction, place: Place) -> None:
        """Count one transaction and the event that it is for."""
        sign = 1 if transaction.type == "usage" else -1
        day, series = place.day, place.series
        self.series[series] = place.columns
        amount, covered, unpriced = 0, 0, 0
        for entry in transaction.entries:
            self.accounts[entry.account] += entry.microcredits
            line = entry.line
            if line is not None:
                if line.quantity < 0:
                    covered += entry.microcredits
                else:
                    amount -= entry.microcredits
                unpriced += line.price is None
                self._charge(day, series, line, sign, entry.microcredits)
                if line.counter is not None:
                    self.volumes[event.tenant, line.counter] += sign * line.quantity
        counts = self.usage.get((day, series))
        if counts is None:
            counts = self.usage[day, series] = [0] * (len(METERS) + 3)
        counts[0] += sign
        for meter, quantity in event.quantities.items():
            counts[_PLACES[meter]] += sign * quantity
        counts[-2] += amount
        counts[-1] += sign * unpriced
        if self._index.by_id:
            self._budget(event, sign * (amount - covered), sign)

    def _budget(self, event: UsageEvent, microcredits: int, sign: int) -> None:
        for terms in self._index.of_event(event):
            count = self.budgets.setdefault((terms.id, terms.period_at(counted_ms(event))), [0, 0, 0])
            for number, used in enumerate(use_of(event, microcredits)):
                count[number] += sign * used

    def _charge(self, day: str, series: str, line: RatedLine, sign: int, microcredits: int) -> None:
        price = ""
        if line.price is not None:
            price = line.price.id
            self.prices[price] = line.price
        key = (day, series, line.meter, price)
        charge = self.charges.get(key)
        if charge is None:
            charge = self.charges[key] = [0, 0]
        charge[0] += sign * line.quantity
        charge[1] -= microcredits


class Totals:
    """Writes sums in the transaction that posts what they are of. Remembers, within bounds, which series and
    prices the database has, so that each is written once."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    async def add(self, connection: AsyncConnection, sums: Sums) -> None:
        """Add the sums. Two writers take rows in the same order (counts of volume first, as posting does), so
        they never wait in a circle."""
        series = [(id_, *columns) for id_, columns in sums.series.items() if id_ not in self._known]
        prices = [price_row(price) for id_, price in sums.prices.items() if id_ not in self._known]
        await bulk.add(connection, volume_totals, ((*key, sum_) for key, sum_ in sums.volumes.items()))
        await bulk.insert(connection, usage_series, sorted(series), bulk.IGNORE)
        await bulk.insert(connection, prices_pinned, sorted(prices), bulk.IGNORE)
        await bulk.add(connection, usage_totals, ((*key, *sum_) for key, sum_ in sums.usage.items()))
        await bulk.add(connection, charge_totals, ((*key, *sum_) for key, sum_ in sums.charges.items()))
        await bulk.add(connection, account_totals, sums.accounts.items())
        await bulk.add(connection, budget_totals, ((*key, *sum_) for key, sum_ in sums.budgets.items()))

    def committed(self, sums: Sums) -> None:
        """The transaction in which the sums were added is durable."""
        if len(self._known) > _KNOWN_LIMIT:
            self._known.clear()
        self._known.update(sums.series, sums.prices)
