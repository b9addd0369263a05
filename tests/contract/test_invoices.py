"""Invoices: numbered without gaps, never changed, and in sum what the ledger has charged."""

import asyncio
import random
from dataclasses import replace

import pytest
from sqlalchemy.exc import DBAPIError

from billing.core.invoicing import Document, InvoiceLine
from billing.months import month_of
from billing.store import Ledger, UsageFilter
from billing.store.invoices import Invoices, lines_of
from common.clock import VirtualClock, parse_rfc3339
from common.db import Database
from common.errors import Conflict, InvalidInput, NotFound
from common.store.memory import MemoryStore
from tests.contract.test_ledger import DAY_MS, NOON, chat, ledger, many_events, prices

__all__ = ["ledger", "prices"]

APRIL = parse_rfc3339("2026-04-05T00:00:00Z")
MARCH = month_of("2026-03")
RECEIVABLE = "receivable:acme/"


@pytest.fixture
def invoices(database: Database) -> Invoices:
    return Invoices(database, VirtualClock(APRIL))


def figures(document: Document | None) -> list[tuple[str, int, int | None, int]]:
    assert document is not None
    return [
        (line.key.meter, line.quantity, line.key.microcredits_per_million, line.microcredits)
        for line in document.lines
    ]


async def test_a_bill_checked_by_hand(ledger: Ledger, invoices: Invoices) -> None:
    """10 prompt tokens, 4 of them cached, at 2 and 0.5 credits a million; 7 made at 6; 90 s of an H100 at
    900: 6 x 2 = 12, 4 x 0.5 = 2 and 7 x 6 = 42 micro-credits, three times; 1 x 0.5 is 1, twice."""
    gpu = {"kind": "device", "device_class": "nvidia/H100", "model": "", "model_identity": ""}
    await ledger.post(
        [
            *(chat(f"use-{n}") for n in range(3)),
            *(chat(f"odd-{n}", quantities={"prompt_tokens": 1, "cached_tokens": 1}) for n in range(2)),
            chat("gpu", quantities={"device_seconds": 90}, **gpu),
            chat("april", ended_ms=MARCH.end_ms),
            chat("february", started_ms=0, ended_ms=MARCH.begin_ms - 1),
            chat("foreign", tenant="umbrella"),
            chat("free", model_identity="lab/own", model_shared=False, quantities={"completion_tokens": 5}),
        ]
    )
    issued = (await invoices.issue("acme", "Acme & Söhne", MARCH)).document
    assert sorted(figures(issued), key=str) == sorted(
        [
            ("prompt_tokens", 18, 2_000_000, 36),
            ("cached_tokens", 14, 500_000, 8),
            ("completion_tokens", 21, 6_000_000, 126),
            ("device_seconds", 90, 900_000_000, 81_000),
            ("completion_tokens", 5, None, 0),
        ],
        key=str,
    )
    assert issued is not None
    assert (issued.microcredits, issued.name, issued.kind) == (81_170, "INV-000001", "invoice")
    assert await invoices.find(1) == issued == Document.from_dict(issued.to_dict())


async def test_what_comes_late_and_what_is_taken_back_has_documents_of_its_own(
    ledger: Ledger, invoices: Invoices
) -> None:
    await ledger.post([chat("a"), chat("b")])
    first = (await invoices.issue("acme", "", MARCH)).document
    again = await invoices.issue("acme", "", MARCH)
    assert (again.document, again.earlier) == (None, (first,))
    await ledger.post([chat("late", quantities={"completion_tokens": 1})])
    late = (await invoices.issue("acme", "", MARCH)).document
    assert late is not None
    assert (late.name, late.refers_to, figures(late)) == (
        "INV-000002",
        1,
        [("completion_tokens", 1, 6_000_000, 6)],
    )
    await ledger.reverse("a", "the engine counted twice")
    note = (await invoices.issue("acme", "", MARCH)).document
    assert note is not None
    assert (note.name, note.kind, note.refers_to, note.microcredits) == ("CRN-000003", "credit_note", 1, -56)
    assert await invoices.issued("acme") == [first, late, note] == await invoices.of_period("acme", MARCH)
    assert await invoices.issued("acme", after=2) == [note]
    assert await invoices.issued("umbrella") == []


@pytest.mark.parametrize("seed", range(2))
async def test_documents_add_up_to_the_ledger_whatever_happens_between_them(
    ledger: Ledger, invoices: Invoices, seed: int
) -> None:
    chance = random.Random(seed)
    events = many_events()
    chance.shuffle(events)
    posted: list[str] = []
    for start in range(0, len(events), 60):
        await ledger.post(events[start : start + 60])
        posted += [event.id for event in events[start : start + 60]]
        for id_ in chance.sample(posted, 15):
            await ledger.reverse(id_, "a test")
        await invoices.issue("acme", "", MARCH)
    documents = await invoices.issued("acme")
    assert len(documents) == 5
    balances = (await ledger.trial_balance()).accounts
    owed = sum(amount for account, amount in balances.items() if account.startswith(RECEIVABLE))
    assert sum(one.microcredits for one in documents) == owed > 0
    groups = ["project", "model_identity", "model", "kind", "device_class"]
    charged = lines_of(await ledger.charges(groups, UsageFilter(tenant="acme")))
    summed: dict[object, InvoiceLine] = {}
    for line in (line for one in documents for line in one.lines):
        before = summed.get(line.key, replace(line, quantity=0, microcredits=0))
        summed[line.key] = InvoiceLine(
            line.key, before.quantity + line.quantity, before.microcredits + line.microcredits
        )
    assert {key: line for key, line in summed.items() if line.quantity} == {one.key: one for one in charged}


async def test_many_at_once_leave_no_gap(database: Database, ledger: Ledger) -> None:
    tenants = [f"tenant-{n}" for n in range(8)]
    await ledger.post([chat(f"use-{tenant}", tenant=tenant) for tenant in tenants])
    makers = [Invoices(database, VirtualClock(APRIL)) for _ in range(3)]
    await asyncio.gather(*(maker.issue(tenant, "", MARCH) for maker in makers for tenant in tenants))
    documents = await makers[0].issued()
    assert [one.number for one in documents] == list(range(1, 9))
    assert {one.tenant for one in documents} == set(tenants)


async def test_the_database_keeps_documents_and_their_order(
    database: Database, ledger: Ledger, invoices: Invoices
) -> None:
    await ledger.post([chat()])
    await invoices.issue("acme", "", MARCH)
    verb = "REPLACE" if database.is_sqlite else "INSERT"
    columns = "kind, tenant, begin_ms, end_ms, issued_ms, microcredits, document"
    statements = (
        "DELETE FROM invoices",
        "UPDATE invoices SET microcredits = 0",
        f"{verb} INTO invoices (number, {columns}) SELECT number, {columns} FROM invoices",
        f"INSERT INTO invoices (number, {columns}) SELECT number + 2, {columns} FROM invoices",
    )
    for statement in statements:
        with pytest.raises(DBAPIError, match="append-only"):
            async with database.write() as connection:
                await connection.exec_driver_sql(statement)
    assert len(await invoices.issued()) == 1


async def test_what_cannot_be_billed_is_refused(ledger: Ledger, invoices: Invoices) -> None:
    await ledger.post([chat()])
    with pytest.raises(InvalidInput, match="not over"):
        await invoices.issue("acme", "", month_of("2026-04"))
    await invoices.issue("acme", "", MARCH)
    with pytest.raises(Conflict, match="overlaps"):
        await invoices.issue("acme", "", month_of("2026-03", "Asia/Shanghai"))
    with pytest.raises(NotFound):
        await invoices.find(2)
    assert (await invoices.issue("nobody", "", MARCH)).document is None


async def test_a_namesake_of_before_is_not_billed_again(ledger: Ledger, invoices: Invoices) -> None:
    await ledger.post([chat("theirs"), chat("ours", ended_ms=NOON + DAY_MS)])
    issued = await invoices.issue("acme", "", MARCH, born_ms=NOON + 1)
    assert issued.document is not None
    assert issued.document.microcredits == 56


async def test_months_of_a_zone_with_summer_time_are_whole(database: Database, prices: MemoryStore) -> None:
    """March in Berlin is an hour short; together with April it has every moment once."""
    march, april = month_of("2026-03", "Europe/Berlin"), month_of("2026-04", "Europe/Berlin")
    assert (march.end_ms - march.begin_ms) // 3_600_000 == 31 * 24 - 1
    assert march.end_ms == april.begin_ms == parse_rfc3339("2026-03-31T22:00:00Z")
    assert march.days() == ("2026-03-01", "2026-03-31")
    ledger = Ledger(database, prices, VirtualClock(APRIL))
    moments = (march.begin_ms - 1, march.begin_ms, march.end_ms - 1, march.end_ms, april.end_ms - 1)
    await ledger.post([chat(f"use-{n}", started_ms=0, ended_ms=moment) for n, moment in enumerate(moments)])
    invoices = Invoices(database, VirtualClock(april.end_ms))
    totals = []
    for period in (march, april):
        document = (await invoices.issue("acme", "", period)).document
        totals.append(document and document.microcredits)
    assert totals == [2 * 56, 2 * 56]
