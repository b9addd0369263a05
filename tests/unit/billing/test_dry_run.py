"""A dry run over the ledger: every event of the span once, whatever the pages, and nothing is written."""

import pytest

from billing import dry_run as module
from billing.core.rating import BookItem, PriceBook
from billing.dry_run import dry_run
from billing.reports import usage_report
from billing.store import Ledger, past
from billing.store.books import book_of
from common.errors import InvalidInput
from common.resources import Price
from common.store.memory import MemoryStore
from tests.contract.test_ledger import DAY_MS, NOON, chat, ledger, prices
from tests.unit.billing.test_ledger_store import database, migrated

__all__ = ["database", "ledger", "migrated", "prices"]

ITEMS = tuple(BookItem(meter, 1_000_000) for meter in ("prompt_tokens", "completion_tokens"))


@pytest.mark.parametrize("page", [1, 3, 500])
async def test_every_event_of_the_span_is_rated_once(
    ledger: Ledger, prices: MemoryStore, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(past, "PAGE", page)
    events = [chat(f"use-{n}", ended_ms=NOON + n // 3, tenant=("acme", "umbrella")[n % 2]) for n in range(12)]
    await ledger.post([*events, chat("late", ended_ms=NOON + DAY_MS), chat("gone")])
    await ledger.reverse("gone", "a test")
    before = await usage_report(ledger, ["tenant"])
    standing = [book_of(one) for one in await prices.list(Price)]
    new = PriceBook("new", 0, NOON + 9 * DAY_MS, ITEMS)
    answer = await dry_run(ledger, standing, [new], NOON, NOON + DAY_MS)
    assert answer["tenants"] == [
        {
            "tenant": tenant,
            "events": 6,
            "charged_microcredits": 6 * 56,
            "microcredits": 6 * 17,
            "unpriced_lines": 0,
            "difference_microcredits": 6 * (17 - 56),
        }
        for tenant in ("acme", "umbrella")
    ]
    contract = PriceBook("contract", 0, 0, ITEMS, tenant="acme")
    for tenant, expected in ((None, ["acme"]), ("acme", ["acme"]), ("umbrella", [])):
        answer = await dry_run(ledger, standing, [contract], NOON, NOON + DAY_MS, tenant)
        assert [one["tenant"] for one in answer["tenants"]] == expected
    assert await usage_report(ledger, ["tenant"]) == before


async def test_a_span_has_bounds(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    new = PriceBook("new", 0, 0, ITEMS)
    with pytest.raises(InvalidInput, match="after from"):
        await dry_run(ledger, [], [new], NOON, NOON)
    monkeypatch.setattr(module, "MOST_EVENTS", 1)
    await ledger.post([chat("a"), chat("b")])
    with pytest.raises(InvalidInput, match="2 events are more than 1"):
        await dry_run(ledger, [], [new], NOON, NOON + 1)
    assert (await dry_run(ledger, [], [new], NOON, NOON + 1, "nobody"))["total"]["events"] == 0
