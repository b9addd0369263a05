"""What was charged at which price: any span adds up to the lines of its events."""

import random
from collections import Counter

import pytest

from billing.core.rating import rate
from billing.store import Ledger, UsageFilter
from billing.store.books import book_of
from common.resources import Price
from common.store.memory import MemoryStore
from tests.contract.test_ledger import DAY_MS, NOON, chat, ledger, many_events, price_book, prices

__all__ = ["ledger", "prices"]


@pytest.mark.parametrize("seed", range(3))
async def test_any_span_adds_up_as_the_lines_do(ledger: Ledger, prices: MemoryStore, seed: int) -> None:
    await prices.apply(price_book("spring", 7_000_000, "2026-03-02T18:00:00Z"))
    books = [book_of(price) for price in await prices.list(Price)]
    events, chance = many_events(), random.Random(seed)
    await ledger.post(events)
    gone = {event.id for event in chance.sample(events, 40)}
    for id_ in sorted(gone):
        await ledger.reverse(id_, "a test")
    for _ in range(4):
        begin, end = sorted(NOON + chance.randrange(-DAY_MS, 3 * DAY_MS) for _ in "ab")
        where = UsageFilter(from_ms=begin, to_ms=end, tenant=chance.choice((None, "acme")))
        expected: dict[tuple[str, ...], Counter[str]] = {}
        for event in events:
            if event.id in gone or not begin <= event.ended_ms < end:
                continue
            if where.tenant not in (None, event.tenant):
                continue
            for line in rate(event, books):
                price = line.price.id if line.price else ""
                sums = expected.setdefault((event.project, event.model, line.meter, price), Counter())
                sums.update(quantity=line.quantity, microcredits=line.microcredits)
        rows = await ledger.charges(["project", "model"], where)
        found = {(*row.group.values(), row.meter, row.price.id if row.price else ""): row for row in rows}
        assert set(found) == set(expected)
        for key, sums in expected.items():
            assert (found[key].quantity, found[key].microcredits) == (sums["quantity"], sums["microcredits"])
        if rows:
            assert len(await ledger.charges(["project", "model"], where, 1)) == 1


async def test_what_is_all_taken_back_makes_no_row(ledger: Ledger) -> None:
    await ledger.post([chat()])
    await ledger.reverse("use-1", "a test")
    assert await ledger.charges() == []
    assert await ledger.charges(where=UsageFilter(from_ms=NOON)) == []
