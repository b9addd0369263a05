"""The ledger on SQLite, as a unit: what the contract asks of each database."""

import asyncio
import json
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from billing.core.rating import BookItem
from billing.rejected import rejected_usage
from billing.reports import usage_report
from billing.store import Ledger, UsageFilter
from billing.store.books import book_of
from billing.store.ledger import BATCH, KNOWN_OTHERWISE
from common.clock import parse_rfc3339
from common.db import Database
from common.resources import Metadata, Price
from common.resources.money import PriceItem, PriceSpec
from common.settings import Settings
from tests.contract.test_ledger import (
    NOON,
    TestPost,
    TestReport,
    TestReverse,
    chat,
    ledger,
    prices,
    test_an_event_that_cannot_be_posted_is_refused_alone_and_with_its_reason,
)

__all__ = [
    "TestPost",
    "TestReport",
    "TestReverse",
    "ledger",
    "prices",
    "test_an_event_that_cannot_be_posted_is_refused_alone_and_with_its_reason",
]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, made once."""
    path = tmp_path_factory.mktemp("ledger") / "state.db"

    async def make() -> None:
        database = Database(f"sqlite+aiosqlite:///{path}")
        await database.migrate()
        await database.close()

    asyncio.run(make())
    return path


@pytest.fixture
async def database(migrated: Path, tmp_path: Path) -> AsyncIterator[Database]:
    """A fresh one."""
    path = shutil.copy(migrated, tmp_path / "state.db")
    database = Database(f"sqlite+aiosqlite:///{path}")
    yield database
    await database.close()


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_more_than_a_batch_is_posted_each_once(ledger: Ledger) -> None:
    events = [chat(f"use-{n:04}") for n in range(BATCH * 2 + 1)]
    assert (await ledger.post([*events, *events[:3]])).accepted == len(events)
    posted = await ledger.post(events)
    assert (posted.accepted, posted.duplicates, posted.refused) == (0, len(events), ())
    assert (await usage_report(ledger)).total.events == len(events)


async def test_refused_and_unpriced_usage_is_counted(ledger: Ledger) -> None:
    refused = counted("computility_usage_events_total", result="refused")
    unpriced = counted("computility_usage_unpriced_lines_total", meter="trained_tokens")
    await ledger.post([chat(), chat("use-2", quantities={"trained_tokens": 5})])
    result = await ledger.post([chat(key="another")])
    assert result.refused == ("use-1",)
    assert result.reason("use-1") == KNOWN_OTHERWISE
    assert counted("computility_usage_events_total", result="refused") == refused + 1
    assert counted("computility_usage_unpriced_lines_total", meter="trained_tokens") == unpriced + 1


async def test_the_price_of_each_line_can_be_looked_up_later(ledger: Ledger) -> None:
    await ledger.post([chat(device_class="nvidia/H100")])
    [posted] = await ledger.transactions("use-1")
    assert posted.id == "usage/use-1"
    lines = [entry.line for entry in posted.entries]
    assert lines[0] is None, "what is owed is no line"
    assert [(line.meter, line.quantity, line.microcredits) for line in lines if line] == [
        ("prompt_tokens", 6, 12),
        ("cached_tokens", 4, 2),
        ("completion_tokens", 7, 42),
    ]
    last = lines[-1]
    assert last is not None
    assert last.price is not None
    assert last.price.item == BookItem("completion_tokens", 6_000_000, "tiny", "*")
    assert await ledger.transactions("use-9") == []


async def test_a_newcomer_does_not_see_what_others_of_its_name_used_before(ledger: Ledger) -> None:
    await ledger.post([chat("old", ended_ms=NOON - 1), chat("own", ended_ms=NOON)])
    assert (await usage_report(ledger, where=UsageFilter(born_ms=NOON))).total.events == 1
    span = UsageFilter(from_ms=NOON - 1, to_ms=NOON)
    assert (await usage_report(ledger, where=span)).total.events == 1
    report = await usage_report(ledger, ["project"])
    assert report.to_dict()["group_by"] == ["project"]
    assert [(row["project"], row["requests"]) for row in report.to_dict()["rows"]] == [("web", 2)]
    assert (await usage_report(ledger)).rows == ()


def test_a_price_holds_from_when_it_says_or_from_when_it_was_made() -> None:
    item = PriceItem(meter="prompt_tokens", microcredits_per_million=7, model="m", device_class="cpu/any")
    price = Price(metadata=Metadata(name="p", created_ms=5, resource_version=3), spec=PriceSpec(items=[item]))
    book = book_of(price)
    assert (book.name, book.version, book.from_ms, book.until_ms, book.tenant) == ("p", 3, 5, None, None)
    assert book.items == (BookItem("prompt_tokens", 7, "m", "cpu/any"),)
    price.spec.effective_from, price.spec.effective_until = "2026-03-01T12:00:00Z", "2026-03-02T00:00:00Z"
    price.spec.tenant = "acme"
    book = book_of(price)
    assert (book.from_ms, book.until_ms) == (NOON, parse_rfc3339("2026-03-02T00:00:00Z"))
    assert book.tenant == "acme"


async def test_usage_that_cannot_be_billed_is_kept_for_people_and_shown_to_nobody_else(
    tmp_path: Path,
) -> None:
    before = counted("computility_usage_rejected_total", kind="device")
    sink = rejected_usage(Settings(home=tmp_path))
    await sink.keep({"id": "use-1", "kind": "device"}, "no such tenant")
    await sink.keep({"id": "use-2"}, "odd")
    file = tmp_path / "spool" / "control" / "rejected.ndjson"
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"reason": "no such tenant", "event": {"id": "use-1", "kind": "device"}},
        {"reason": "odd", "event": {"id": "use-2"}},
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert counted("computility_usage_rejected_total", kind="device") == before + 1
