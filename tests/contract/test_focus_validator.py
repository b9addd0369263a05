"""The FOCUS export against the rules of FOCUS 1.2, by the FinOps Foundation's own validator.

It is the program ``focus-validator`` (2.2, which needs Python 3.12): on ``PATH``, or where
``COMPUTILITY_FOCUS_VALIDATOR`` says.
"""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from billing.core.products import Order, Product, ShelfPrice
from billing.focus import GROUPS, Bill, csv_of, parquet_of, rows_of
from billing.months import month_of
from billing.store import Ledger, UsageFilter
from billing.store.invoices import Invoices
from billing.store.order_charges import charges_of
from billing.store.orders import Orders
from common.clock import VirtualClock
from common.db import Database
from common.resources import Metadata, Price
from common.resources.money import PriceItem, PriceSpec, PriceTier
from common.store.memory import MemoryStore
from tests.contract.test_invoices import APRIL
from tests.contract.test_ledger import DAY_MS, NOON, chat, many_events, price_book

VALIDATOR = os.environ.get("COMPUTILITY_FOCUS_VALIDATOR") or shutil.which("focus-validator")
MARCH = month_of("2026-03")
TIERS = [PriceTier(above=100, microcredits_per_million=700_000)]
CONTRACT = [
    PriceItem(meter="prompt_tokens", microcredits_per_million=1_000_000, tiers=TIERS),
    PriceItem(meter="completion_tokens", adapter="web/tone", microcredits_per_million=8_000_000),
    PriceItem(meter="completion_tokens", microcredits_per_million=0),
    PriceItem(meter="trained_tokens", microcredits_per_million=3_000_000),
]
"""A contract: cheaper, by volume, dearer with an adapter; what a model makes is free."""
SUPPORTED = (
    *("ACCOUNT_NAMING_SUPPORTED", "NEGOTIATED_PRICING_SUPPORTED", "PUBLIC_PRICE_LIST_SUPPORTED"),
    *("UNIT_PRICING_SUPPORTED", "SUB_ACCOUNT_SUPPORTED", "TAGGING_SUPPORTED"),
    *("BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED", "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED"),
    *("MULTIPLE_PRICING_CATEGORIES_SUPPORTED", "REGION_SUPPORTED"),
)
"""What the platform has of what not every provider has: the rules of these hold, too."""
MANY_RULES = 150
PACK = Product("pack", "tokens", 30, (ShelfPrice(0, 9000),), amount=30)


@pytest.fixture
async def prices() -> MemoryStore:
    """The standard price book, and a contract from the fourth of the month on."""
    store = MemoryStore(VirtualClock())
    await store.apply(price_book())
    spec = PriceSpec(effective_from="2026-03-04T00:00:00Z", items=CONTRACT, tenant="acme")
    await store.apply(Price(metadata=Metadata(name="contract"), spec=spec))
    return store


async def exported(database: Database, prices: MemoryStore) -> Bill:
    """A month with usage of all kinds, a pack, an invoice, a credit note and usage that came late."""
    ledger = Ledger(database, prices, VirtualClock())
    later = {"started_ms": NOON, "ended_ms": NOON + 5 * DAY_MS}
    trained = {"kind": "training", "quantities": {"trained_tokens": 500}}
    tagged = {"user": "ann", "tags": {"team": 'red, "1"', "stadt": "Köln"}, "endpoint": "web/chat"}
    await ledger.post(
        [
            *(replace(one, tenant="acme") for one in many_events()[:60]),
            chat("tagged", **tagged),
            chat("adapter", base_model="tiny", model="tone", adapter_identity="web/tone", **later),
            *(chat(f"volume-{number}", quantities={"prompt_tokens": 70}, **later) for number in range(3)),
            chat("free", quantities={"completion_tokens": 5}, **later),
            chat("trained", **trained, **later),
            chat(
                "unpriced", model_identity="lab/own", model_shared=False, quantities={"completion_tokens": 5}
            ),
        ]
    )
    invoices = Invoices(database, VirtualClock(APRIL))
    await invoices.issue("acme", "Acme & Söhne", MARCH)
    for id_ in ("use-0003", "tagged", "volume-0"):
        await ledger.reverse(id_, "a test")
    await invoices.issue("acme", "Acme & Söhne", MARCH)
    await Orders(database, VirtualClock(NOON)).place(
        Order("o-1", "acme", "uid-acme", PACK, 1, NOON - 1000, NOON - 1000)
    )
    await ledger.post([chat("late"), chat("covered", ended_ms=NOON + 1)])
    return Bill("acme", "Acme & Söhne", MARCH, await invoices.of_period("acme", MARCH), "USD")


@pytest.mark.skipif(VALIDATOR is None, reason="focus-validator is neither on PATH nor named")
@pytest.mark.parametrize("kind", ["csv", "parquet"])
async def test_the_validator_of_focus_finds_nothing(
    database: Database, prices: MemoryStore, tmp_path: Path, kind: str
) -> None:
    assert VALIDATOR is not None
    bill = await exported(database, prices)
    assert [document.kind for document in bill.documents] == ["invoice", "credit_note"]
    charges = await Ledger(database, prices).charges(
        GROUPS, UsageFilter(tenant="acme", from_ms=MARCH.begin_ms, to_ms=MARCH.end_ms)
    )
    ordered = await charges_of(database, "acme", MARCH, born_ms=0)
    file, rows = tmp_path / f"march.{kind}", list(rows_of(bill, charges, ordered))
    assert {row["ChargeCategory"] for row in rows} == {"Usage", "Adjustment", "Credit", "Purchase"}
    file.write_bytes("".join(csv_of(rows)).encode() if kind == "csv" else parquet_of(rows))
    words: list[str | Path] = ["--data-file", file, "--validate-version", "1.2", "--block-download"]
    words += ["--applicability-criteria", ",".join(SUPPORTED)]
    # It looks for its list of currencies below the folder that it is started in, and writes a log there.
    [package] = Path(VALIDATOR).resolve().parent.parent.glob("lib/python*/site-packages/focus_validator")
    (tmp_path / "focus_validator").symlink_to(package)
    told = subprocess.run([VALIDATOR, *words], capture_output=True, text=True, cwd=tmp_path, check=False)
    results = dict(re.findall(r"(\S+): (PASS|FAIL) ", told.stdout))
    assert len(results) > MANY_RULES, told.stderr[-4000:]
    # An invoice has to be named or not: the validator tells of the way that was not taken, and passes both.
    assert results.pop("InvoiceId-C-004-C") == "FAIL"
    assert results["InvoiceId-C-003-C"] == "PASS"
    assert [name for name, result in results.items() if result == "FAIL"] == [], told.stdout[-4000:]
