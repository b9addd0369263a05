"""The FOCUS export: quantity times unit price is a row's cost, and rows that name a bill add up to it."""

import csv
import io
import json
import random
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from billing.focus import COLUMNS, DECIMALS, GROUPS, QUANTITIES, Bill, csv_of, parquet_of, rows_of
from billing.months import month_of
from billing.store import Ledger, UsageFilter
from billing.store.invoices import Invoices
from common.clock import VirtualClock, rfc3339
from common.db import Database
from tests.contract.test_invoices import APRIL
from tests.contract.test_ledger import NOON, chat, ledger, many_events, prices

__all__ = ["ledger", "prices"]

MANDATORY = {
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodStart"),
    *("BillingPeriodEnd", "ChargeCategory", "ChargeDescription", "ChargePeriodStart", "ChargePeriodEnd"),
    *("ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "ProviderName", "PublisherName"),
    *("ServiceCategory", "ServiceName"),
}
"""Columns of FOCUS 1.2 that hold something in every row."""


async def exported(ledger: Ledger, database: Database, zone: str = "UTC") -> list[dict[str, str]]:
    period = month_of("2026-03", zone)
    documents = await Invoices(database).of_period("acme", period)
    where = UsageFilter(tenant="acme", from_ms=period.begin_ms, to_ms=period.end_ms)
    bill = Bill("acme", "Acme", period, documents, "USD")
    text = "".join(csv_of(rows_of(bill, await ledger.charges(GROUPS, where))))
    return list(csv.DictReader(io.StringIO(text)))


def check_rows(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert tuple(row) == COLUMNS
        assert all(row[name] for name in MANDATORY), row
        assert len({row[name] for name in ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost")}) == 1
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["ChargePeriodEnd"]
        assert row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
        if row["ChargeCategory"] == "Usage":
            product = Decimal(row["PricingQuantity"]) * Decimal(row["ListUnitPrice"])
            assert product == Decimal(row["ListCost"])
            assert row["PricingUnit"] == row["ConsumedUnit"]


def sums(rows: list[dict[str, str]]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        found[row["InvoiceId"]] += Decimal(row["BilledCost"])
    return {name: amount for name, amount in found.items() if amount}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/St_Johns"])
async def test_rows_add_up_to_the_documents_and_all_to_the_ledger(
    database: Database, ledger: Ledger, zone: str
) -> None:
    chance, events = random.Random(zone), many_events()
    invoices = Invoices(database, VirtualClock(APRIL))
    for start in range(0, 240, 80):
        await ledger.post(events[start : start + 80])
        for event in chance.sample(events[: start + 80], 20):
            await ledger.reverse(event.id, "a test")
        await invoices.issue("acme", "Acme", month_of("2026-03", zone))
    await ledger.post(events[240:])
    rows = await exported(ledger, database, zone)
    check_rows(rows)
    found = sums(rows)
    documents = await invoices.issued("acme")
    assert len(documents) == 3
    for document in documents:
        assert found.pop(document.name) == Decimal(document.microcredits).scaleb(-6)
    owed = await ledger.charges(["tenant"], UsageFilter(tenant="acme"))
    rest = sum(one.microcredits for one in owed) - sum(one.microcredits for one in documents)
    assert found == {"PROVISIONAL-2026-03-01": Decimal(rest).scaleb(-6)}


async def test_a_month_without_bills_and_with_tags_says_all(database: Database, ledger: Ledger) -> None:
    await ledger.post(
        [
            chat("a", user="ann", tags={"team": 'red, "1"'}, endpoint="web/chat"),
            chat("b", quantities={"prompt_tokens": 1, "cached_tokens": 1}),
            chat("free", model_identity="lab/own", model_shared=False, quantities={"completion_tokens": 5}),
        ]
    )
    rows = await exported(ledger, database)
    check_rows(rows)
    assert sums(rows) == {"PROVISIONAL-2026-03-01": Decimal("0.000057")}
    [tagged] = [row for row in rows if row["SkuMeter"] == "Output Tokens" and row["ResourceId"]]
    assert json.loads(tagged["Tags"]) == {
        "team": 'red, "1"',
        "computility/key": "key-1",
        "computility/user": "ann",
    }
    assert (tagged["ListUnitPrice"], tagged["BilledCost"]) == ("0.000006000000", "0.000042000000")
    [rounding] = [row for row in rows if row["ChargeCategory"] == "Adjustment"]
    assert rounding["BilledCost"] == "0.000000500000"
    assert {row["PricingQuantity"] for row in rows if row["SkuPriceId"].endswith("/none")} == {"5.0"}


async def test_no_cell_is_a_formula(ledger: Ledger) -> None:
    named = {"model_identity": "", "model": "=cmd()", "base_model": "=cmd()", "key": "@k", "user": "-1"}
    await ledger.post([chat("a", endpoint="+web/chat", **named)])
    period, charges = month_of("2026-03"), await ledger.charges(GROUPS, UsageFilter(tenant="acme"))
    for name in ("=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "Acme-1"):
        bill = Bill("acme", name, period, (), "USD")
        for row in csv.DictReader(io.StringIO("".join(csv_of(rows_of(bill, charges))))):
            assert row["BillingAccountName"].removeprefix("'") == name
            texts = [cell for column, cell in row.items() if column not in (*DECIMALS, *QUANTITIES)]
            assert not [cell for cell in texts if cell.startswith(("=", "+", "-", "@"))]


async def test_parquet_has_the_same_rows(database: Database, ledger: Ledger) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    await ledger.post([chat(f"use-{n}", ended_ms=NOON + n) for n in range(3)])
    period = month_of("2026-03")
    charges = await ledger.charges(GROUPS, UsageFilter(tenant="acme"))
    bill = Bill("acme", "", period, (), "USD")
    table = pq.read_table(pa.BufferReader(parquet_of(rows_of(bill, charges))))
    assert table.column_names == list(COLUMNS)
    assert [told(row) for row in table.to_pylist()] == list(rows_of(bill, charges))
    assert all(pa.types.is_decimal(table.schema.field(name).type) for name in DECIMALS)
    assert all(pa.types.is_decimal(table.schema.field(name).type) for name in QUANTITIES)
    assert table["ChargePeriodStart"][0].as_py() == datetime(2026, 3, 1, tzinfo=UTC)


def told(row: dict[str, object]) -> dict[str, object]:
    """The same with times as texts."""
    return {
        name: rfc3339(int(value.timestamp() * 1000)) if isinstance(value, datetime) else value
        for name, value in row.items()
    }
