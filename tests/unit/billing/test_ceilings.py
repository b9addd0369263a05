"""Ceilings: no request costs more than what is held for it, whatever books there are and whoever answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from billing.core.ceilings import Ceiling, Ceilings, Doer
from billing.core.events import UsageEvent
from billing.core.rating import BookItem, PriceBook, Rates
from billing.core.volume import Tier
from common.clock import parse_rfc3339

MONDAY = parse_rfc3339("2026-11-30T00:00:00Z")
HOUR_MS = 3_600_000
DOERS = [
    Doer("hub/a", True, "nvidia/H100"),
    Doer("hub/b", False, "nvidia/H100"),
    Doer("hub/a", True, "cpu/any"),
]
METERS = ("prompt_tokens", "cached_tokens", "completion_tokens")
PRICES = st.integers(0, 5_000_000)


@st.composite
def items(draw: st.DrawFn) -> BookItem:
    return BookItem(
        draw(st.sampled_from(METERS)),
        draw(PRICES),
        draw(st.sampled_from(("*", "a", "hub/a", "hub/b"))),
        draw(st.sampled_from(("*", "nvidia/H100"))),
        draw(st.sampled_from(("*", "hub/adapter"))),
        hours=draw(st.sampled_from(("", "22:00-06:00", "Mon-Fri 08:00-20:00"))),
        tiers=tuple(Tier(10 * n, draw(PRICES)) for n in range(1, draw(st.integers(1, 3)))),
    )


@st.composite
def books(draw: st.DrawFn) -> PriceBook:
    from_ms = MONDAY + draw(st.integers(-48, 48)) * HOUR_MS
    return PriceBook(
        name=draw(st.sampled_from("pqrs")),
        version=1,
        from_ms=from_ms,
        items=tuple(draw(st.lists(items(), min_size=1, max_size=5))),
        until_ms=draw(st.sampled_from((None, from_ms + 30 * HOUR_MS))),
        tenant=draw(st.sampled_from((None, "acme"))),
    )


def event(doer: Doer, at_ms: int, adapter: str, quantities: dict[str, int]) -> UsageEvent:
    return UsageEvent(
        id="use-1",
        kind="inference",
        tenant="acme",
        project="bots",
        started_ms=at_ms,
        ended_ms=at_ms,
        admitted_ms=at_ms,
        quantities=quantities,
        model_identity=doer.model_identity,
        model_shared=doer.model_shared,
        device_class=doer.device_class,
        adapter_identity=adapter,
    )


@given(st.lists(books(), max_size=4), st.data())
def test_a_hold_is_never_less_than_what_rating_says_nor_is_what_is_settled(
    given_books: list[PriceBook], data: st.DataObject
) -> None:
    ceilings, rates = Ceilings(given_books), Rates(given_books)
    doers = frozenset(data.draw(st.sets(st.sampled_from(DOERS), min_size=1)))
    adapter = data.draw(st.sampled_from(("", "hub/adapter")))
    doer = data.draw(st.sampled_from(sorted(doers)))
    prompt, completion = data.draw(st.integers(0, 200)), data.draw(st.integers(0, 200))
    cached = data.draw(st.integers(0, prompt))
    quantities = {"prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": completion}
    before = data.draw(st.integers(0, 40))
    for step in data.draw(st.lists(st.integers(-72 * 60, 72 * 60), min_size=1, max_size=4)):
        at_ms = MONDAY + step * 60_000 + 17
        one = event(doer, at_ms, adapter, quantities)
        counters = {line.counter for line in rates.lines(one) if line.counter is not None}
        lines = rates.lines(one, dict.fromkeys(counters, before))
        cost = sum(line.microcredits for line in lines)
        parts = len(lines)  # each part of a price by volume is rounded by itself
        ceiling = ceilings.of("acme", adapter, doers, at_ms)
        assert cost <= ceiling.amount(prompt, cached, completion) + parts
        assert ceiling.amount(prompt, cached, completion) <= ceiling.most(prompt, completion) + 1
        unknown = ceilings.of("acme", adapter, frozenset(), at_ms)
        assert cost <= unknown.amount(prompt, cached, completion) + parts


def test_without_tiers_and_with_one_engine_what_is_settled_is_what_is_charged() -> None:
    book = PriceBook(
        "p",
        1,
        MONDAY,
        tuple(
            BookItem(meter, price) for meter, price in zip(METERS, (150_000, 15_000, 600_000), strict=True)
        ),
    )
    ceiling = Ceilings([book]).of("acme", "", frozenset(DOERS[:1]), MONDAY)
    assert ceiling == Ceiling(150_000, 15_000, 600_000)
    one = event(DOERS[0], MONDAY, "", {"prompt_tokens": 1234, "cached_tokens": 234, "completion_tokens": 567})
    assert ceiling.amount(1234, 234, 567) == sum(line.microcredits for line in Rates([book]).lines(one))


def test_a_price_that_changes_or_goes_by_hours_is_that_of_the_moment() -> None:
    day = PriceBook("day", 1, MONDAY, (BookItem("completion_tokens", 4_000_000),))
    night = replace(day.items[0], microcredits_per_million=1_000_000, hours="22:00-06:00")
    both = Ceilings([replace(day, items=(*day.items, night), until_ms=MONDAY + 30 * HOUR_MS + 500)])

    def at(ms: Any) -> int:
        return both.of("acme", "", frozenset(DOERS[:1]), MONDAY + ms).completion

    assert [at(ms) for ms in (-1, 0, 6 * HOUR_MS - 1, 6 * HOUR_MS, 22 * HOUR_MS, 5, 30 * HOUR_MS + 500)] == [
        0,
        1_000_000,
        1_000_000,
        4_000_000,
        1_000_000,
        1_000_000,
        0,
    ]
