"""What the database itself guarantees of the ledger: nothing posted changes, totals are sums of what is
posted, and tables of before keep every amount."""

import json
import random
from collections import Counter

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.events import METERS, UsageEvent
from billing.reports import usage_report
from billing.store import Ledger, UsageFilter
from billing.store.schema import METADATA
from common.clock import VirtualClock
from common.db import Database
from common.db.migrate import MIGRATIONS
from common.store.memory import MemoryStore
from tests.contract.test_ledger import DAY_MS, NOON, chat, ledger, many_events, prices

__all__ = ["ledger", "prices"]

FIXED = [
    (table, column.name)
    for table in ("usage_events", "journal", "prices_pinned")
    for column in METADATA.tables[table].columns
]


class TestAppendOnly:
    async def test_no_column_of_what_was_posted_changes(self, database: Database, ledger: Ledger) -> None:
        await ledger.post([chat()])
        await ledger.reverse("use-1", "why not")
        for table, column in FIXED:
            await self.refused(database, f"UPDATE {table} SET {column} = {column}")

    @pytest.mark.parametrize("table", ["usage_events", "journal", "prices_pinned"])
    async def test_nothing_posted_is_removed(self, database: Database, ledger: Ledger, table: str) -> None:
        await ledger.post([chat()])
        await self.refused(database, f"DELETE FROM {table}")
        if not database.is_sqlite:
            await self.refused(database, f"TRUNCATE {table} CASCADE")

    @pytest.mark.parametrize("table", ["usage_events", "journal"])
    async def test_nothing_posted_is_replaced(self, database: Database, ledger: Ledger, table: str) -> None:
        await ledger.post([chat()])
        verb = "REPLACE" if database.is_sqlite else "INSERT"
        with pytest.raises(DBAPIError):
            async with database.write() as connection:
                await connection.exec_driver_sql(f"{verb} INTO {table} SELECT * FROM {table}")

    async def test_an_event_is_taken_back_once(self, database: Database, ledger: Ledger) -> None:
        await ledger.post([chat()])
        await self.refused(database, "UPDATE usage_events SET reversed_ms = NULL")
        await ledger.reverse("use-1", "counted twice")
        await self.refused(database, "UPDATE usage_events SET reversed_ms = 7")

    async def refused(self, database: Database, statement: str) -> None:
        with pytest.raises(DBAPIError, match="append-only"):
            async with database.write() as connection:
                await connection.exec_driver_sql(statement)


class TestTotals:
    @pytest.mark.parametrize("seed", range(4))
    async def test_any_span_adds_up_as_the_events_do(self, ledger: Ledger, seed: int) -> None:
        events, chance = many_events(), random.Random(seed)
        await ledger.post(events)
        gone = {event.id for event in chance.sample(events, 40)}
        for id_ in sorted(gone):
            await ledger.reverse(id_, "a test")
        for _ in range(12):
            bounds = sorted(NOON + chance.choice((0, chance.randrange(-DAY_MS, 3 * DAY_MS))) for _ in "ab")
            where = UsageFilter(
                from_ms=chance.choice((None, bounds[0])),
                to_ms=bounds[1] + 1,
                tenant=chance.choice((None, "acme")),
            )
            expected: Counter[str] = Counter()
            for event in events:
                if event.id in gone or event.ended_ms < (where.from_ms or 0) or event.ended_ms > bounds[1]:
                    continue
                if where.tenant in (None, event.tenant):
                    expected.update(events=1, **{meter: event.quantity(meter) for meter in METERS})
            total = (await usage_report(ledger, where=where)).total
            assert total.events == expected["events"]
            assert [getattr(total, m) for m in METERS] == [expected[m] for m in METERS]
            report = await usage_report(ledger, ["day", "key"], where)
            assert sum(row.events for row in report.rows) == total.events
            assert all(row.events for row in report.rows), "what is all taken back makes no row"

    async def test_they_are_what_the_journal_adds_up_to(self, database: Database, ledger: Ledger) -> None:
        await ledger.post(many_events())
        for number in range(0, 60, 3):
            await ledger.reverse(f"use-{number:04}", "a test")
        accounts: Counter[str] = Counter()
        async with database.read() as connection:
            for (entries,) in await connection.exec_driver_sql("SELECT entries FROM journal"):
                for account, amount, *_ in json.loads(entries):
                    accounts[account] += amount
            charged = "SELECT SUM(microcredits) AS amount, SUM(quantity) AS quantity FROM charge_totals"
            charges = (await connection.exec_driver_sql(charged)).mappings().one()
        assert dict((await ledger.trial_balance()).accounts) == dict(accounts)
        total = (await usage_report(ledger)).total
        assert charges["amount"] == total.microcredits
        assert charges["quantity"] == sum(getattr(total, meter) for meter in METERS) - total.cached_tokens


OLD_EVENT = {
    "kind": "inference",
    "tenant": "acme",
    "project": "web",
    "key": "key-1",
    "model": "tiny",
    "device_class": "",
    "day": "2026-03-01",
    "ended_ms": NOON,
    "posted_ms": 1,
    "prompt_tokens": 10,
    "cached_tokens": 4,
    "completion_tokens": 7,
    "trained_tokens": 0,
    "device_seconds": 0,
    "microcredits": 54,
    "unpriced_lines": 1,
    "model_identity": "platform/tiny",
}
NO_PRICE = (None,) * 6
OLD_ENTRIES: tuple[tuple[object, ...], ...] = (
    ("receivable:acme/web", 54, None, None, *NO_PRICE),
    ("revenue:prompt_tokens", -12, "prompt_tokens", 6, "standard", 1, "prompt_tokens", "*", "*", 2_000_000),
    ("revenue:cached_tokens", 0, "cached_tokens", 4, *NO_PRICE),
    (
        *("revenue:completion_tokens", -42, "completion_tokens", 7),
        *("standard", 1, "completion_tokens", "tiny", "*", 6_000_000),
    ),
)


async def insert(connection: AsyncConnection, table: str, *values: object) -> None:
    marks = ", ".join(f":v{number}" for number in range(len(values)))
    given = {f"v{number}": value for number, value in enumerate(values)}
    await connection.execute(sa.text(f"INSERT INTO {table} VALUES ({marks})"), given)


async def old_rows(connection: AsyncConnection, event: UsageEvent, reversed_ms: int | None) -> None:
    """What the tables of before held of an event."""
    own = {"id": event.id, "digest": event.digest(), "document": json.dumps(event.to_dict())}
    row = {**OLD_EVENT, **own, "reversed_ms": reversed_ms}
    await insert(connection, f"usage_events ({', '.join(row)})", *row.values())
    for type_, sign in (("usage", 1), ("reversal", -1))[: 2 if reversed_ms else 1]:
        id_ = f"{type_}/{event.id}"
        await insert(connection, "journal_transactions", id_, event.id, type_, 1, "because")
        for number, (account, amount, *rest) in enumerate(OLD_ENTRIES):
            assert isinstance(amount, int)
            await insert(connection, "journal_entries", id_, number, account, sign * amount, *rest)


async def test_tables_of_before_keep_every_amount(database_url: str) -> None:
    database = Database(database_url)

    def to_0005(connection: sa.Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")

    async with database.write() as connection:
        await connection.run_sync(to_0005)
        await old_rows(connection, chat("old-1"), None)
        await old_rows(connection, chat("old-2"), 9)
    await database.migrate()
    ledger = Ledger(database, MemoryStore(), VirtualClock(NOON))
    [posted] = await ledger.transactions("old-1")
    lines = [entry.line for entry in posted.entries if entry.line]
    assert [(line.meter, line.quantity, line.microcredits) for line in lines] == [
        ("prompt_tokens", 6, 12),
        ("cached_tokens", 4, 0),
        ("completion_tokens", 7, 42),
    ]
    assert [line.price and line.price.item.microcredits_per_million for line in lines] == [
        2_000_000,
        None,
        6_000_000,
    ]
    assert [t.type for t in await ledger.transactions("old-2")] == ["usage", "reversal"]
    assert (await ledger.trial_balance()).accounts["receivable:acme/web"] == 54
    total = (await usage_report(ledger)).total
    assert (total.events, total.prompt_tokens, total.microcredits, total.unpriced_lines) == (1, 10, 54, 1)
    assert (await ledger.post([chat("old-1")])).duplicates == 1
    await ledger.reverse("old-1", "a test")
    assert set((await ledger.trial_balance()).accounts.values()) == {0}
    assert (await usage_report(ledger, ["model"])).rows == ()
    await database.close()
