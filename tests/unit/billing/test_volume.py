"""Tiers by volume: each unit at its tier, exactly, in whatever order and pieces usage comes."""

import random
from collections import Counter as Counts

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.events import UsageEvent
from billing.core.rating import BookItem, PriceBook, RatedLine, Rates, charged_again, rate
from billing.core.volume import Tier, parts_of
from common.clock import parse_rfc3339

NOON = parse_rfc3339("2026-03-01T12:00:00Z")
TIERS = (Tier(1000, 700_000), Tier(5000, 300_000))
ITEM = BookItem("prompt_tokens", 1_000_000, tiers=TIERS)
BOOK = PriceBook("standard", 1, 0, (ITEM, BookItem("completion_tokens", 2_000_000)))
BOUNDS = st.lists(st.integers(1, 10_000), unique=True, max_size=5).map(sorted)


def used(
    quantity: int, at_ms: int = NOON, tenant: str = "acme", id_: str = "use-1", cached: int = 0
) -> UsageEvent:
    quantities = {"prompt_tokens": quantity, "cached_tokens": cached}
    return UsageEvent(
        id_, "inference", tenant, "web", at_ms, at_ms, quantities, model_identity="p/m", admitted_ms=at_ms
    )


def posted(events: list[UsageEvent], books: list[PriceBook]) -> list[RatedLine]:
    """The lines of events, posted one after the other."""
    rates, counts, lines = Rates(books), dict[str, dict[str, int]](), list[RatedLine]()
    for event in events:
        of_tenant = counts.setdefault(event.tenant, {})
        for line in rates.lines(event, of_tenant):
            lines.append(line)
            if line.counter is not None:
                of_tenant[line.counter] = line.before + line.quantity
    return lines


def by_price(lines: list[RatedLine]) -> Counts[int]:
    """Units sold at each price."""
    sold: Counts[int] = Counts()
    for line in lines:
        assert line.price is not None
        sold[line.price.item.microcredits_per_million] += line.quantity
    return sold


@given(st.integers(1, 20_000), st.integers(0, 20_000), BOUNDS)
def test_each_unit_is_in_the_tier_that_holds_its_place(quantity: int, before: int, bounds: list[int]) -> None:
    ladder = [Tier(above, number) for number, above in enumerate([0, *bounds])]
    parts = list(parts_of(quantity, before, ladder))
    assert sum(part.quantity for part in parts) == quantity
    assert [part.before for part in parts] == [
        before + sum(p.quantity for p in parts[:n]) for n in range(len(parts))
    ]
    for part in parts:
        assert part.quantity > 0
        for place in (part.before, part.before + part.quantity - 1):
            assert part.tier == max(tier for tier in ladder if tier.above <= place)


@pytest.mark.parametrize(
    ("before", "quantity", "expected"),
    [
        (0, 1000, {1_000_000: 1000}),
        (0, 1001, {1_000_000: 1000, 700_000: 1}),
        (999, 1, {1_000_000: 1}),
        (1000, 1, {700_000: 1}),
        (999, 4002, {1_000_000: 1, 700_000: 4000, 300_000: 1}),
        (5000, 7, {300_000: 7}),
    ],
)
def test_a_tier_ends_exactly_at_its_bound(before: int, quantity: int, expected: dict[int, int]) -> None:
    [first] = posted([used(1)], [BOOK])
    assert first.counter is not None
    lines = rate(used(quantity), [BOOK], {first.counter: before})
    assert by_price(list(lines)) == expected
    assert lines[0].before == before


QUANTITIES = st.lists(st.integers(1, 4000), min_size=1, max_size=8)


@given(QUANTITIES, st.randoms(use_true_random=False))
def test_units_by_tier_are_the_same_in_any_order(quantities: list[int], chance: random.Random) -> None:
    events = [used(quantity, id_=f"use-{n}") for n, quantity in enumerate(quantities)]
    again = chance.sample(events, len(events))
    assert by_price(posted(events, [BOOK])) == by_price(posted(again, [BOOK]))
    assert by_price(posted([used(sum(quantities))], [BOOK])) == by_price(posted(events, [BOOK]))


@given(st.integers(1, 4000), st.integers(0, 9000), st.integers(0, 4000))
def test_rated_again_from_what_its_lines_name_an_event_costs_the_same(
    quantity: int, before: int, cached: int
) -> None:
    event = used(quantity, cached=min(cached, quantity))
    counter = next(line.counter for line in rate(event, [BOOK]) if line.counter)
    lines = rate(event, [BOOK], {counter: before})
    assert charged_again(event, lines) == lines
    assert rate(event, [BOOK], {counter: lines[0].before}) == lines
    with pytest.raises(ValueError, match="not of what it says"):
        charged_again(event, lines[1:])


def test_cached_tokens_that_cost_as_much_as_the_prompt_count_with_it() -> None:
    lines = posted([used(2000, cached=1500)], [BOOK])
    assert [(line.meter, line.before, line.quantity) for line in lines] == [
        ("prompt_tokens", 0, 500),
        ("cached_tokens", 500, 500),
        ("cached_tokens", 1000, 1000),
    ]


def test_each_tenant_and_each_period_counts_anew() -> None:
    month_later = parse_rfc3339("2026-04-01T00:00:00Z")
    for events in ([used(1000), used(5, tenant="umbrella")], [used(1000), used(5, month_later)]):
        assert by_price(posted(events, [BOOK])) == {1_000_000: 1005}
    assert by_price(posted([used(1000), used(5, month_later - 1)], [BOOK])) == {1_000_000: 1000, 700_000: 5}


def test_another_book_counts_anew_and_an_ended_one_goes_on() -> None:
    other = PriceBook("autumn", 1, NOON, (ITEM,))
    assert by_price(posted([used(1000, NOON - 1), used(5)], [BOOK, other])) == {1_000_000: 1005}
    ended = PriceBook(BOOK.name, 2, 0, BOOK.items, until_ms=NOON + 1)
    [first] = posted([used(1000)], [BOOK])
    assert first.counter == rate(used(1), [ended])[0].counter


@given(st.integers(0, 1))
def test_a_price_of_before_keeps_its_digest(version: int) -> None:
    [line] = rate(used(1), [PriceBook("p", version, 0, (BookItem("prompt_tokens", 3),))])
    assert line.price is not None
    assert line.price.canonical() == (
        '{"book":"p","device_class":"*","meter":"prompt_tokens","microcredits_per_million":3,'
        f'"model":"*","version":{version}}}'
    )
    full = BookItem("prompt_tokens", 3, "m", "cpu/any", "p/a", "batch", "Mon 01:00-02:00", "day", TIERS, 1000)
    assert BookItem.from_content(full.content()) == full
