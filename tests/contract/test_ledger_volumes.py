"""Prices by volume in the ledger: every unit at its tier, whoever posts it how often, and given back when it
is taken back."""

import asyncio
import random
from collections import Counter
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from billing.core.products import Order, Product, ShelfPrice
from billing.core.rating import charged_again
from billing.store import Ledger, bulk
from billing.store.orders import Orders
from billing.store.schema import volume_totals
from common.clock import VirtualClock
from common.db import Database
from common.errors import Unavailable
from common.resources import Metadata, Price
from common.resources.money import PriceItem, PriceSpec, PriceTier
from common.store.memory import MemoryStore
from tests.contract.test_ledger import NOON, chat

FIRST, SECOND, THIRD = 1_000_000, 700_000, 300_000


@pytest.fixture
async def prices() -> MemoryStore:
    """A store with one price by volume, and one that is not."""
    tiers = [
        PriceTier(above=above, microcredits_per_million=price)
        for above, price in ((100, SECOND), (250, THIRD))
    ]
    items = [
        PriceItem(meter="prompt_tokens", microcredits_per_million=FIRST, tiers=tiers),
        PriceItem(meter="completion_tokens", microcredits_per_million=6_000_000),
    ]
    spec = PriceSpec(effective_from="2026-01-01T00:00:00Z", items=items, time_zone="Asia/Shanghai")
    store = MemoryStore(VirtualClock())
    await store.apply(Price(metadata=Metadata(name="standard"), spec=spec))
    return store


@pytest.fixture
def ledger(database: Database, prices: MemoryStore) -> Ledger:
    return Ledger(database, prices, VirtualClock())


async def sold(ledger: Ledger) -> dict[int, int]:
    """Units of the prompt sold at each price."""
    found: Counter[int] = Counter()
    for row in await ledger.charges():
        if row.meter == "prompt_tokens" and row.price is not None:
            found[row.price.item.microcredits_per_million] += row.quantity
    return dict(found)


async def counted(database: Database) -> list[int]:
    async with database.read() as connection:
        return list((await connection.execute(sa.select(volume_totals.c.quantity))).scalars())


async def test_a_tier_ends_within_an_event_and_the_lines_say_where(ledger: Ledger) -> None:
    for number in range(3):
        await ledger.post([chat(f"use-{number}", quantities={"prompt_tokens": 90, "completion_tokens": 1})])
    assert await sold(ledger) == {FIRST: 100, SECOND: 150, THIRD: 20}
    [posted] = await ledger.transactions("use-1")
    lines = [entry.line for entry in posted.entries if entry.line is not None]
    assert [(line.meter, line.before, line.quantity, line.microcredits) for line in lines] == [
        ("prompt_tokens", 90, 10, 10),
        ("prompt_tokens", 100, 80, 56),
        ("completion_tokens", 0, 1, 6),
    ]
    event = chat("use-1", quantities={"prompt_tokens": 90, "completion_tokens": 1})
    assert charged_again(event, lines) == tuple(lines)
    assert lines[0].counter == lines[1].counter
    assert str(lines[0].counter).startswith("2026-03/")


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_sold_at_each_price_hangs_on_no_order_batch_or_repetition(
    database: Database, ledger: Ledger, seed: int
) -> None:
    chance = random.Random(seed)
    events = [chat(f"use-{n:02}", quantities={"prompt_tokens": chance.randrange(1, 30)}) for n in range(40)]
    total = sum(event.quantity("prompt_tokens") for event in events)
    parts = [chance.sample(events, chance.randrange(1, 20)) for _ in range(6)]
    await asyncio.gather(*(ledger.post(part) for part in (*parts, events)))
    await ledger.post(events)
    expected = {FIRST: min(total, 100), SECOND: min(max(total - 100, 0), 150), THIRD: max(total - 250, 0)}
    assert await sold(ledger) == {price: units for price, units in expected.items() if units}
    assert await counted(database) == [total]
    assert (await ledger.trial_balance()).total_microcredits == 0


async def test_what_is_taken_back_gives_its_volume_back(database: Database, ledger: Ledger) -> None:
    await ledger.post([chat("use-1", quantities={"prompt_tokens": 90})])
    await ledger.post([chat("use-2", quantities={"prompt_tokens": 90})])
    await ledger.reverse("use-2", "counted twice")
    await ledger.reverse("use-2", "again")
    assert await counted(database) == [90]
    assert await sold(ledger) == {FIRST: 90}
    await ledger.post([chat("use-3", quantities={"prompt_tokens": 90})])
    assert await sold(ledger) == {FIRST: 100, SECOND: 80}


async def test_posting_and_taking_back_lock_counts_before_allotments(
    database: Database, ledger: Ledger
) -> None:
    pack = Product("pack", "tokens", 30, (ShelfPrice(0, 9000),), amount=1000)
    await Orders(database).place(Order("o-1", "acme", "uid", pack, 1, NOON - 1000, NOON - 1000))
    for work in (lambda: ledger.post([chat("use-1")]), lambda: ledger.reverse("use-1", "wrong")):
        asked: list[str] = []

        def note(_: object, __: object, statement: str, *___: object, asked: list[str] = asked) -> None:
            asked.append(statement)

        sa.event.listen(database.engine.sync_engine, "before_cursor_execute", note)
        await work()
        sa.event.remove(database.engine.sync_engine, "before_cursor_execute", note)
        first = [next(n for n, one in enumerate(asked) if t in one) for t in ("volume_totals", "allotments")]
        assert first == sorted(first)


async def test_a_month_counts_by_the_calendar_of_the_book_s_zone(database: Database, ledger: Ledger) -> None:
    midnight = NOON + 30 * 24 * 3600 * 1000 + 4 * 3600 * 1000  # 16:00 UTC of 31 March is midnight in Shanghai
    for number, ended_ms in enumerate((midnight - 1, midnight)):
        await ledger.post(
            [chat(f"use-{number}", ended_ms=ended_ms, admitted_ms=ended_ms, quantities={"prompt_tokens": 90})]
        )
    assert await sold(ledger) == {FIRST: 180}
    assert await counted(database) == [90, 90]


async def test_a_refused_event_takes_no_volume(database: Database, ledger: Ledger) -> None:
    await ledger.post([chat("use-1", quantities={"prompt_tokens": 90})])
    posted = await ledger.post(
        [chat("use-1", quantities={"prompt_tokens": 70}), chat("use-2", quantities={"prompt_tokens": 5})]
    )
    assert posted.refused == ("use-1",)
    assert await counted(database) == [95]
    assert await sold(ledger) == {FIRST: 95}


async def test_an_event_that_another_posts_meanwhile_gets_no_second_place(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sees_nothing(*_: object) -> list[tuple[str, str]]:
        return []

    first, second = (chat(f"use-{n}", quantities={"prompt_tokens": 90}) for n in (1, 2))
    await ledger.post([first])
    blind = SimpleNamespace(insert=bulk.insert, IGNORE=bulk.IGNORE, look_up=sees_nothing)
    monkeypatch.setattr("billing.store.volumes.bulk", blind)
    with pytest.raises(Unavailable, match="by another"):
        await ledger.post([first, second])
    monkeypatch.undo()
    assert await counted(database) == [90]
    posted = await ledger.post([first, second])
    assert (posted.accepted, posted.duplicates) == (1, 1)
    assert await sold(ledger) == {FIRST: 100, SECOND: 80}
