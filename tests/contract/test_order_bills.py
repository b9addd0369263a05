"""Orders on bills: packs and vouchers are lines, and documents and cost rows add up to what is owed."""

import random
from collections import Counter
from dataclasses import replace
from decimal import Decimal

import pytest

from billing.core.invoicing import Document
from billing.core.products import Order, Product, ShelfPrice
from billing.focus import GROUPS, Bill, csv_of, rows_of
from billing.months import month_of
from billing.store import Ledger, UsageFilter
from billing.store.invoices import Invoices
from billing.store.order_charges import charges_of
from billing.store.orders import Orders
from common.clock import VirtualClock
from common.db import Database
from common.resources import Budget, Metadata
from common.resources.budgets import BudgetLimit, BudgetScope, BudgetSpec
from common.store.memory import MemoryStore
from tests.contract.test_focus import sums
from tests.contract.test_invoices import APRIL, MARCH
from tests.contract.test_ledger import NOON, chat, ledger, many_events, prices

__all__ = ["ledger", "prices"]

PACK = Product("pack", "tokens", 30, (ShelfPrice(0, 900),), amount=40)
MONEY = Product("money", "microcredits", 30, (ShelfPrice(0, 50),), amount=60)


def ordered(id_: str, product: Product, pieces: int = 1, at_ms: int = NOON - 1000) -> Order:
    return Order(id_, "acme", "uid-acme", product, pieces, at_ms, at_ms)


def lines_of(document: Document | None) -> list[tuple[str, str, int, int]]:
    assert document is not None
    return sorted(
        (line.key.meter, line.key.book, line.quantity, line.microcredits)
        for line in document.lines
        if line.key.book != "standard"
    )


async def test_a_bill_with_a_pack_and_money_checked_by_hand(database: Database, ledger: Ledger) -> None:
    """Three answers cost 56 each. The pack has 40 tokens, 17 an answer: two, and 6 of the third, which are
    its prompt, 12 micro-credits. What is left of it, 2 + 42 = 44, the money pays."""
    orders = Orders(database, VirtualClock(NOON))
    await orders.place(ordered("po-1", PACK))
    await orders.place(ordered("po-2", MONEY))
    await ledger.post([chat(f"use-{number}") for number in range(3)])
    issued = (await Invoices(database, VirtualClock(APRIL)).issue("acme", "", MARCH)).document
    assert lines_of(issued) == [
        ("covered_microcredits", "acme/po-2", -44, -44),
        ("covered_tokens", "acme/po-1", -40, -124),
        ("order", "acme/po-1", 1, 900),
        ("order", "acme/po-2", 1, 50),
    ]
    assert issued is not None
    assert issued.microcredits == 950
    assert await owed(ledger) == 950


async def owed(ledger: Ledger) -> int:
    balances = (await ledger.trial_balance()).accounts
    return sum(amount for account, amount in balances.items() if account.startswith("receivable:acme"))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai"])
async def test_documents_and_rows_add_up_whatever_is_ordered_reversed_and_cancelled_between(
    database: Database, ledger: Ledger, zone: str
) -> None:
    chance, events, clock = random.Random(zone), many_events(), VirtualClock(NOON)
    period = month_of("2026-03", zone)
    orders, invoices = Orders(database, clock), Invoices(database, VirtualClock(APRIL))
    at_ms = min(event.ended_ms for event in events)
    for round_ in range(3):
        product = chance.choice((PACK, replace(PACK, models=("tiny",)), MONEY))
        await orders.place(ordered(f"po-{round_}", product, pieces=7, at_ms=max(at_ms, period.begin_ms)))
        await ledger.post(events[round_ * 80 : round_ * 80 + 80])
        for event in chance.sample(events[: round_ * 80 + 80], 20):
            await ledger.reverse(event.id, "a test")
        if round_ == 1:
            await orders.cancel("acme", "uid-acme", "po-0")
        await invoices.issue("acme", "Acme", period)
    documents = await invoices.issued("acme")
    assert sum(one.microcredits for one in documents) == await owed(ledger)
    assert await ledger.days_apart("2026-01-01", "2026-12-31") == {}
    where = UsageFilter(tenant="acme", from_ms=period.begin_ms, to_ms=period.end_ms)
    bill = Bill("acme", "Acme", period, documents, "USD")
    charges = await ledger.charges(GROUPS, where)
    rows = list(rows_of(bill, charges, await charges_of(database, "acme", period, 0)))
    assert "".join(csv_of(rows))
    found = sums([{name: str(row[name] or "") for name in ("InvoiceId", "BilledCost")} for row in rows])
    assert found == {one.name: Decimal(one.microcredits).scaleb(-6) for one in documents if one.microcredits}
    kinds = Counter(row["ChargeCategory"] for row in rows)
    assert kinds["Purchase"] == 3
    assert kinds["Credit"] > 1
    for row in rows:
        if row["ChargeCategory"] in ("Usage", "Purchase"):
            assert row["PricingQuantity"] * row["ListUnitPrice"] == row["ListCost"]


async def test_a_budget_of_money_counts_what_is_owed_beside_orders(
    database: Database, ledger: Ledger, prices: MemoryStore
) -> None:
    """A pack was paid for when it was ordered: it does not count again when it is used."""
    spec = BudgetSpec(
        scope=BudgetScope(tenant="acme"),
        limit=BudgetLimit(microcredits=1000),
        period="total",
        effective_from="2026-01-01T00:00:00Z",
    )
    await prices.apply(Budget(metadata=Metadata(name="all"), spec=spec))
    await Orders(database, VirtualClock(NOON)).place(ordered("po-1", PACK))
    await ledger.post([chat(f"use-{number}") for number in range(3)])
    [terms] = (await ledger.budgets.index()).by_id.values()
    assert (await ledger.budgets.spending([terms], NOON))[terms.id].spent == 44
    await ledger.reverse("use-2", "a test")
    assert (await ledger.budgets.spending([terms], NOON))[terms.id].spent == 0
