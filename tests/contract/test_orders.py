"""Orders on both databases: placed once, used before money in the transaction of the usage, ended once."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from billing.core.products import DAY_MS, Order, Product, ShelfPrice
from billing.core.rating import charged_again
from billing.core.vouchers import Voucher
from billing.months import month_of
from billing.store import Ledger
from billing.store import orders as store
from billing.store.order_charges import charges_of
from billing.store.orders import Orders
from billing.store.schema import METADATA
from billing.store.shelf import Shelf
from common.clock import VirtualClock, parse_rfc3339
from common.db import Database
from common.errors import Conflict, InvalidInput, NotFound, TooManyRequests
from tests.contract.test_ledger import NOON, chat, ledger, many_events, prices

__all__ = ["ledger", "prices"]

PACK = Product("pack", "tokens", 30, (ShelfPrice(0, 9000),), amount=1000)
COST = 56
"""Of every ``chat``: 10 prompt tokens of which 4 are cached, and 7 that were made; 17 tokens."""
TOKENS = 17


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOON)


@pytest.fixture
def orders(database: Database, clock: VirtualClock) -> Orders:
    return Orders(database, clock)


@pytest.fixture
def shelf(database: Database, clock: VirtualClock) -> Shelf:
    return Shelf(database, clock)


def ordered(id_: str = "o-1", product: Product = PACK, **changes: Any) -> Order:
    made = Order(id_, "acme", "uid-acme", product, 1, NOON - 1000, NOON - 1000)
    return replace(made, **changes)


async def balances(ledger: Ledger) -> dict[str, int]:
    found = await ledger.trial_balance()
    assert found.total_microcredits == 0
    return {account: sum_ for account, sum_ in found.accounts.items() if sum_}


async def test_an_order_is_placed_once(ledger: Ledger, orders: Orders) -> None:
    first = await orders.place(ordered())
    again = await orders.place(ordered(ordered_ms=NOON, begins_ms=NOON))
    assert again == replace(first, repeated=True)
    with pytest.raises(Conflict, match="says something else"):
        await orders.place(ordered(pieces=2))
    with pytest.raises(Conflict, match="says something else"):
        await orders.place(ordered(tenant_uid="uid-of-a-namesake"))
    assert await balances(ledger) == {"receivable:acme": 9000, "prepaid:acme/o-1": -9000}
    with pytest.raises(NotFound):
        await orders.find("acme", "uid-of-a-namesake", "o-1")


async def test_an_order_that_has_begun_meanwhile_is_the_same_again(orders: Orders) -> None:
    ahead = NOON + 3_600_000
    first = await orders.place(ordered(begins_ms=ahead))
    assert await orders.place(ordered(ordered_ms=ahead + 1, begins_ms=ahead)) == replace(first, repeated=True)


async def test_many_that_order_at_once_place_one(ledger: Ledger, orders: Orders) -> None:
    placed = await asyncio.gather(*(orders.place(ordered()) for _ in range(6)))
    assert sum(not one.repeated for one in placed) == 1
    assert (await balances(ledger))["receivable:acme"] == 9000


async def test_usage_takes_of_a_pack_before_money_and_a_reversal_restores_it(
    ledger: Ledger, orders: Orders
) -> None:
    await orders.place(ordered(product=replace(PACK, amount=2 * TOKENS - 7)))
    await ledger.post([chat("a"), chat("b")])
    found = await orders.find("acme", "uid-acme", "o-1")
    assert found.taken.used == 2 * TOKENS - 7
    assert await balances(ledger) == {
        "receivable:acme": 9000,
        "receivable:acme/web": 42,
        "covered:tokens": 2 * COST - 42,
        "revenue:orders": -9000,
        "revenue:prompt_tokens": -24,
        "revenue:cached_tokens": -4,
        "revenue:completion_tokens": -84,
    }
    [row] = await ledger.usage()
    assert (row.microcredits, row.unpriced_lines) == (2 * COST, 0), "what it costs, whoever has paid"
    assert sum(row.microcredits for row in await ledger.charges()) == 42
    reversal = await ledger.reverse("a", "a test")
    assert reversal.microcredits == COST
    assert (await orders.find("acme", "uid-acme", "o-1")).taken.used == TOKENS - 7
    assert await ledger.days_apart("2026-01-01", "2026-12-31") == {}
    await ledger.reverse("b", "a test")
    assert await balances(ledger) == {"receivable:acme": 9000, "prepaid:acme/o-1": -9000}


async def test_what_was_covered_is_rated_again_from_what_the_journal_names(
    ledger: Ledger, orders: Orders
) -> None:
    await orders.place(ordered())
    event = chat()
    await ledger.post([event])
    [usage] = await ledger.transactions(event.id)
    lines = [entry.line for entry in usage.entries if entry.line]
    assert sum(line.microcredits for line in lines) == 0
    assert sum(line.microcredits for line in charged_again(event, lines)) == COST


@pytest.mark.parametrize("seed", range(3))
async def test_in_any_order_with_any_repetition_a_voucher_comes_to_the_same(
    database: Database, ledger: Ledger, shelf: Shelf, seed: int
) -> None:
    events, chance = [chat(f"use-{number}") for number in range(60)], random.Random(seed)
    [(_, code)] = await shelf.issue([Voucher("gift", 1000, NOON + DAY_MS, 30)])
    await shelf.redeem(code, "acme", "uid-acme", "key-1")
    events = [replace(event, ended_ms=NOON + 5, admitted_ms=NOON + 1) for event in events]
    batches = [chance.sample(events, chance.randrange(1, 40)) for _ in range(8)]
    await asyncio.gather(*(_posted(ledger, batch) for batch in [*batches, events]))
    assert (await balances(ledger))["covered:microcredits"] == 1000
    assert (await balances(ledger))["receivable:acme/web"] == 60 * COST - 1000
    assert await ledger.days_apart("2026-01-01", "2026-12-31") == {}
    for event in events:
        await ledger.reverse(event.id, "a test")
    assert await balances(ledger) == {}


async def _posted(ledger: Ledger, events: list[Any]) -> None:
    """As a gateway does: what is being posted by another is tried again."""
    while True:
        try:
            await ledger.post(events)
            return
        except Exception as error:
            if type(error).__name__ != "Unavailable":
                raise
            await asyncio.sleep(0)


async def test_who_has_no_order_is_charged_as_before(ledger: Ledger, orders: Orders) -> None:
    await orders.place(ordered(tenant="other"))
    events = many_events()
    await ledger.post(events)
    assert not any(account.startswith("covered") for account in await balances(ledger))


async def test_a_cancelled_order_gives_back_what_is_unused_once(ledger: Ledger, orders: Orders) -> None:
    await orders.place(ordered())
    await ledger.post([chat("a")])
    done = await orders.cancel("acme", "uid-acme", "o-1")
    assert (done.refund_microcredits, done.state(NOON)) == (9000 - 9 * TOKENS, "cancelled")
    assert await orders.cancel("acme", "uid-acme", "o-1") == replace(done, repeated=True)
    await ledger.post([chat("b")])
    assert await balances(ledger) == {
        "receivable:acme": 9 * TOKENS,
        "receivable:acme/web": COST,
        "covered:tokens": COST,
        "revenue:orders": -9 * TOKENS,
        "revenue:prompt_tokens": -24,
        "revenue:cached_tokens": -4,
        "revenue:completion_tokens": -84,
    }
    await ledger.reverse("a", "after the end")
    assert (await balances(ledger))["receivable:acme"] == 9 * TOKENS


async def test_what_is_not_refundable_gives_nothing_back(ledger: Ledger, orders: Orders) -> None:
    await orders.place(ordered(product=replace(PACK, refundable=False)))
    assert (await orders.cancel("acme", "uid-acme", "o-1")).refund_microcredits == 0
    assert await balances(ledger) == {"receivable:acme": 9000, "revenue:unused": -9000}


async def test_an_order_that_is_over_is_closed_after_late_usage_has_come(
    ledger: Ledger, orders: Orders, clock: VirtualClock
) -> None:
    await orders.place(ordered())
    clock.advance(30 * DAY_MS / 1000)
    with pytest.raises(Conflict, match="is over"):
        await orders.cancel("acme", "uid-acme", "o-1")
    assert await orders.close() == []
    await ledger.post([chat("late")])
    clock.advance(store.SETTLE_MS / 1000)
    assert [one.order.id for one in await orders.close()] == ["o-1"]
    assert await orders.close() == []
    found = await balances(ledger)
    assert (found["revenue:unused"], found["revenue:orders"]) == (9 * TOKENS - 9000, -9 * TOKENS)
    assert "prepaid:acme/o-1" not in found


async def test_a_tenant_has_so_many_open_orders(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_OPEN", 2)
    await orders.place(ordered("a"))
    await orders.place(ordered("b"))
    with pytest.raises(Conflict, match="2 orders that are not over"):
        await orders.place(ordered("c"))
    await orders.cancel("acme", "uid-acme", "a")
    await orders.place(ordered("c"))
    assert [one.order.id for one in await orders.latest("acme", open_only=True)] == ["b", "c"]


async def test_a_tenant_places_so_many_orders_a_day(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_A_DAY", 1)
    await orders.place(ordered("a"))
    with pytest.raises(TooManyRequests, match="1 orders today"):
        await orders.place(ordered("b"))
    await orders.place(ordered("b", ordered_ms=NOON + DAY_MS))


async def test_a_voucher_is_redeemed_by_one_tenant(shelf: Shelf, clock: VirtualClock, ledger: Ledger) -> None:
    wanted = [Voucher(f"gift-{n}", 100, NOON + DAY_MS, 30) for n in range(3)]
    (_, code), (_, other), (_, late) = await shelf.issue(wanted)
    both = await asyncio.gather(
        *(shelf.redeem(code, name, f"uid-{name}", "k") for name in ("acme", "rival")), return_exceptions=True
    )
    assert sorted(isinstance(one, Conflict) for one in both) == [False, True]
    winner = next(one for one in both if not isinstance(one, BaseException)).order
    assert (await shelf.redeem(code, winner.tenant, winner.tenant_uid, "k")).repeated
    with pytest.raises(Conflict, match="codes are shown once"):
        await shelf.issue(wanted[:1])
    await shelf.void("gift-1")
    with pytest.raises(Conflict, match="was redeemed"):
        await shelf.void("gift-0")
    clock.advance(2 * DAY_MS / 1000)
    for bad, why in ((other, "good"), (late, "expired"), ("no such", "is no voucher")):
        with pytest.raises(InvalidInput, match=why) as refused:
            await shelf.redeem(bad, "acme", "uid-acme", "k")
        assert refused.value.param == "code"


async def test_the_same_on_the_shelf_at_once_is_there_once(shelf: Shelf) -> None:
    assert sum(await asyncio.gather(*(shelf.put(PACK) for _ in range(6)))) == 1
    wanted = [Voucher("gift", 100, NOON + DAY_MS, 30)]
    issued = await asyncio.gather(*(shelf.issue(wanted) for _ in range(6)), return_exceptions=True)
    assert sorted(isinstance(one, Conflict) for one in issued) == [False, *[True] * 5]


async def test_an_order_of_another_version_holds_up_no_other(
    database: Database, orders: Orders, clock: VirtualClock
) -> None:
    await orders.place(ordered("b"))
    async with database.write() as connection:
        for table, row in (
            (METADATA.tables["orders"], ("acme/a", "acme", "uid-acme", "", NOON, 0, '{"id": "a"}')),
            (METADATA.tables["allotments"], ("acme/a", "acme", 1, NOON, 0, 0, None, 0, 0)),
        ):
            await connection.execute(sa.insert(table).values(row))
    assert [one.order.id for one in await orders.not_over()] == ["b"]
    clock.advance(60 * DAY_MS / 1000)
    assert [one.order.id for one in await orders.close()] == ["b"]


async def test_a_clock_that_went_back_loses_no_refund(
    database: Database, orders: Orders, clock: VirtualClock
) -> None:
    midnight = parse_rfc3339("2026-04-01T00:00:00Z")
    clock.advance((midnight - NOON) / 1000)
    await orders.place(ordered(ordered_ms=midnight, begins_ms=midnight))
    behind = Orders(database, VirtualClock(midnight - 1))
    await behind.cancel("acme", "uid-acme", "o-1")
    charges = await charges_of(database, "acme", month_of("2026-04"), 0)
    assert [one.microcredits for one in charges] == [9000, -9000]


async def test_products_are_on_the_shelf_or_off_it(shelf: Shelf) -> None:
    assert await shelf.put(PACK)
    assert not await shelf.put(replace(PACK, on_shelf=False))
    await shelf.put(replace(PACK, name="theirs", tenant="rival"))
    assert [one.name for one in await shelf.products()] == ["pack", "theirs"]
    assert await shelf.products("acme") == []
    assert not (await shelf.product("pack", "acme")).on_shelf
    with pytest.raises(NotFound):
        await shelf.product("theirs", "acme")
    await shelf.remove("theirs")
    with pytest.raises(NotFound):
        await shelf.remove("theirs")


async def test_nothing_ordered_changes(database: Database, orders: Orders, shelf: Shelf) -> None:
    await orders.place(ordered())
    [(_, code)] = await shelf.issue([Voucher("gift", 100, NOON + DAY_MS, 30)])
    await shelf.redeem(code, "acme", "uid-acme", "k")
    await orders.cancel("acme", "uid-acme", "o-1")
    refused = [
        f"UPDATE orders SET {column.name} = {column.name}" for column in METADATA.tables["orders"].columns
    ]
    refused += ["UPDATE allotments SET granted = granted + 1", "UPDATE allotments SET ended_ms = NULL"]
    refused += ["UPDATE allotments SET refund_microcredits = 5 WHERE id = 'acme/o-1'"]
    refused += ["UPDATE vouchers SET order_id = NULL", "UPDATE vouchers SET document = ''"]
    refused += [f"DELETE FROM {table}" for table in ("orders", "allotments", "vouchers")]
    for statement in refused:
        with pytest.raises(DBAPIError, match="append-only"):
            async with database.write() as connection:
                await connection.exec_driver_sql(statement)
    with pytest.raises(DBAPIError, match=r"(?i)check"):
        async with database.write() as connection:
            await connection.execute(sa.text("UPDATE allotments SET used = granted + 1"))
