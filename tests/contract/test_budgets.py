"""Budgets on each database: what is posted counts once, and what is lent is never more than what is left."""

import asyncio
import random
from typing import Any

import pytest

from billing.core.budgets import Terms
from billing.core.leases import GRACE_SECONDS, LEASE_SECONDS, Ask
from billing.store import Ledger
from billing.store.books import terms_of
from billing.store.budgets import Renewed, Spending, Wanted
from common.clock import VirtualClock, parse_rfc3339
from common.db import Database
from common.resources import Budget, Metadata, Price
from common.resources.budgets import BudgetSpec
from common.resources.money import PriceItem, PriceSpec
from common.store.memory import MemoryStore
from tests.contract.test_ledger import NOON, chat

TOKEN_PRICE = 2_000_000
MARCH = "2026-03"
LIMIT = 1_000


@pytest.fixture
async def store() -> MemoryStore:
    """A price of two micro-credits a token."""
    items = [
        PriceItem(meter=meter, microcredits_per_million=TOKEN_PRICE)
        for meter in ("prompt_tokens", "completion_tokens")
    ]
    store = MemoryStore(VirtualClock(NOON - 1_000_000))
    await store.apply(
        Price(
            metadata=Metadata(name="standard"),
            spec=PriceSpec(effective_from="2026-01-01T00:00:00Z", items=items),
        )
    )
    return store


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOON)


@pytest.fixture
def ledger(database: Database, store: MemoryStore, clock: VirtualClock) -> Ledger:
    return Ledger(database, store, clock)


async def made(store: MemoryStore, name: str = "acme", most: int = LIMIT, **spec: Any) -> Terms:
    content = {
        "scope": {"tenant": "acme"},
        "limit": {"microcredits": most},
        "effectiveFrom": "2026-03-01T00:00:00Z",
        **spec,
    }
    applied = await store.apply(Budget(metadata=Metadata(name=name), spec=BudgetSpec.model_validate(content)))
    return terms_of(applied.resource)


async def spent(ledger: Ledger, terms: Terms, at_ms: int = NOON) -> Spending:
    return (await ledger.budgets.spending([terms], at_ms))[terms.id]


async def ask(
    ledger: Ledger, terms: Terms, holder: str, sequence: int, firm: int, room: int, needed: int
) -> Renewed:
    [answer] = await ledger.budgets.renew(holder, [Wanted(terms, MARCH, Ask(sequence, firm, room, needed))])
    return answer


def used(number: int, tokens: int, **more: Any) -> Any:
    return chat(f"use-{number:03}", quantities={"prompt_tokens": tokens}, **more)


async def test_what_is_posted_counts_once_and_what_is_reversed_no_more(
    ledger: Ledger, store: MemoryStore
) -> None:
    money, tokens = await made(store), await made(store, "tokens", limit={"tokens": 10**6})
    for _ in range(2):
        await ledger.post([used(1, 100), used(2, 50)])
    assert await spent(ledger, money) == Spending(300, 0)
    assert await spent(ledger, tokens) == Spending(150, 0)
    for _ in range(2):
        await ledger.reverse("use-001", "counted twice")
    assert await spent(ledger, money) == Spending(100, 0)
    assert await spent(ledger, tokens) == Spending(50, 0)


@pytest.mark.parametrize("seed", range(3))
async def test_any_order_and_repetition_of_posts_and_reports_gives_the_same_balances(
    ledger: Ledger, store: MemoryStore, seed: int
) -> None:
    terms, chance = await made(store, most=10**6), random.Random(seed)
    events = [used(number, chance.randrange(1, 30)) for number in range(40)]
    parts = [chance.sample(events, 10) for _ in range(6)]
    reports = [(holder, number) for holder in "ab" for number in (1, 2, 3)] * 2
    chance.shuffle(reports)
    await asyncio.gather(
        *(ledger.post(part) for part in (*parts, events)),
        *(ask(ledger, terms, holder, number, 10 * number, 0, 0) for holder, number in reports),
    )
    total = sum(event.quantity("prompt_tokens") for event in events)
    assert (await spent(ledger, terms)).spent == 2 * total
    last = [await ask(ledger, terms, holder, 4, 30, 0, 0) for holder in "ab"]
    assert [answer.lease.sequence for answer in last] == [4, 4]
    assert last[1].others == last[0].lease.open


async def test_holders_that_ask_at_the_same_time_are_never_lent_more_than_is_left(
    ledger: Ledger, store: MemoryStore
) -> None:
    terms = await made(store)
    await ledger.post([used(1, 100)])
    answers = await asyncio.gather(*(ask(ledger, terms, f"gw-{n}", 1, 0, 0, 150) for n in range(16)))
    lent = sum(answer.lease.change for answer in answers)
    assert lent == LIMIT - 200
    assert await spent(ledger, terms) == Spending(200, 800)


async def test_a_lease_is_over_once_and_what_it_held_can_be_lent_again(
    ledger: Ledger, store: MemoryStore, clock: VirtualClock
) -> None:
    terms = await made(store)
    first = await ask(ledger, terms, "dead", 1, 0, 0, LIMIT)
    assert first.lease.change == LIMIT
    assert (await ask(ledger, terms, "alive", 1, 0, 0, 10)).lease.change == 0
    clock.advance(LEASE_SECONDS + GRACE_SECONDS)
    assert (await ask(ledger, terms, "alive", 2, 0, 0, 600)).lease.change == 610
    await ledger.post([used(1, 400)])  # the spool of the dead one: more than was left, but within its lease
    assert await spent(ledger, terms) == Spending(800, 610)
    assert (await ask(ledger, terms, "alive", 3, 0, 610, 10)).lease.change == -510


async def test_what_a_dead_holder_had_is_free_once_its_successor_says_that_all_is_posted(
    ledger: Ledger, store: MemoryStore
) -> None:
    terms = await made(store)
    await ask(ledger, terms, "dead", 1, 0, 0, LIMIT)
    await ledger.budgets.end(["dead", "never-heard-of"])
    assert (await ask(ledger, terms, "next", 1, 0, 0, LIMIT)).lease.change == LIMIT


async def test_periods_are_apart_and_what_is_gone_is_forgotten(
    ledger: Ledger, store: MemoryStore, clock: VirtualClock
) -> None:
    terms = await made(store, period="day")
    day_ms = 24 * 3_600_000
    await ledger.post([used(1, 100), used(2, 5, ended_ms=NOON + day_ms, admitted_ms=NOON + day_ms)])
    assert (await spent(ledger, terms)).spent == 200
    assert (await spent(ledger, terms, NOON + day_ms)).spent == 10
    await ledger.budgets.tidy([])
    assert (await spent(ledger, terms)).spent == 200, "it may have been made a moment ago"
    await ledger.budgets.tidy([])
    assert (await spent(ledger, terms)).spent == 0


async def test_usage_of_before_the_budget_or_of_others_does_not_count(
    ledger: Ledger, store: MemoryStore
) -> None:
    terms = await made(store, scope={"tenant": "acme", "tags": {"team": "search"}})
    early = parse_rfc3339("2026-02-28T23:59:59Z")
    await ledger.post(
        [
            used(1, 1, tags={"team": "search"}),
            used(2, 10, tags={"team": "sales"}),
            used(3, 100, tags={"team": "search"}, tenant="other"),
            used(4, 1000, tags={"team": "search"}, started_ms=early, admitted_ms=early),
        ]
    )
    assert (await spent(ledger, terms)).spent == 2
