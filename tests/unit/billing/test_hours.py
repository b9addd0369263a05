"""Prices by time of day: midnight, month ends, and the nights on which clocks are changed."""

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.events import UsageEvent
from billing.core.hours import local_ms, period_of
from billing.core.rating import BookItem, PriceBook, rate
from common.clock import parse_rfc3339
from common.weekly import parse_weekly

BERLIN, SHANGHAI = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai")
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
DAY_PRICE, NIGHT_PRICE = 9_000_000, 1_000_000
ITEMS = (
    BookItem("prompt_tokens", DAY_PRICE),
    BookItem("prompt_tokens", NIGHT_PRICE, hours="22:00-06:00"),
)


def at(text: str) -> int:
    return parse_rfc3339(text)


def price(admitted_ms: int, book: PriceBook, ended_ms: int | None = None) -> int:
    end = admitted_ms if ended_ms is None else ended_ms
    event = UsageEvent(
        "u", "inference", "acme", "web", admitted_ms, end, {"prompt_tokens": 1}, admitted_ms=admitted_ms
    )
    [line] = rate(event, [book])
    assert line.price is not None
    return line.price.item.microcredits_per_million


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-01-10T20:59:59Z", DAY_PRICE),
        ("2026-01-10T21:00:00Z", NIGHT_PRICE),
        ("2026-01-10T23:00:00Z", NIGHT_PRICE),
        ("2026-01-11T04:59:59Z", NIGHT_PRICE),
        ("2026-01-11T05:00:00Z", DAY_PRICE),
        ("2026-07-10T20:00:00Z", NIGHT_PRICE),
        ("2026-07-10T19:59:59Z", DAY_PRICE),
    ],
)
def test_the_night_begins_when_clocks_there_show_it(moment: str, expected: int) -> None:
    assert price(at(moment), PriceBook("b", 1, 0, ITEMS, zone=BERLIN)) == expected


def test_an_hour_that_comes_twice_has_its_price_twice_and_one_left_out_has_none() -> None:
    hour = (ITEMS[0], BookItem("prompt_tokens", NIGHT_PRICE, hours="02:00-03:00"))
    book = PriceBook("b", 1, 0, hour, zone=BERLIN)
    for day, hours in (("2026-10-25", 2), ("2026-03-29", 0), ("2026-03-30", 1)):
        begin = at(f"{day}T00:00:00Z") - 3 * HOUR_MS
        minutes = [price(begin + n * MINUTE_MS, book) for n in range(24 * 60)]
        assert minutes.count(NIGHT_PRICE) == 60 * hours


@given(
    st.integers(at("2020-01-01T00:00:00Z"), at("2035-01-01T00:00:00Z")), st.sampled_from((BERLIN, SHANGHAI))
)
def test_the_price_goes_by_the_clock_on_the_wall_at_every_moment(at_ms: int, zone: ZoneInfo) -> None:
    wall = datetime.fromtimestamp(at_ms // 1000, zone)
    night = wall.hour >= 22 or wall.hour < 6
    assert price(at_ms, PriceBook("b", 1, 0, ITEMS, zone=zone)) == (NIGHT_PRICE if night else DAY_PRICE)
    assert period_of(at_ms, "month", zone) == f"{wall:%Y-%m}"
    assert period_of(at_ms, "day", zone) == f"{wall:%Y-%m-%d}"
    assert period_of(at_ms, "year", zone) == f"{wall:%Y}"


@pytest.mark.parametrize(
    ("last", "zone", "months"),
    [
        ("2026-03-31T21:59:59.999Z", BERLIN, ("2026-03", "2026-04")),
        ("2026-10-31T22:59:59.999Z", BERLIN, ("2026-10", "2026-11")),
        ("2026-02-28T15:59:59.999Z", SHANGHAI, ("2026-02", "2026-03")),
        ("2025-12-31T15:59:59.999Z", SHANGHAI, ("2025-12", "2026-01")),
    ],
)
def test_a_month_ends_at_its_zone_s_midnight(last: str, zone: ZoneInfo, months: tuple[str, str]) -> None:
    assert (period_of(at(last), "month", zone), period_of(at(last) + 1, "month", zone)) == months


def test_an_answer_costs_what_it_did_when_it_was_asked_for() -> None:
    midnight = at("2026-04-01T00:00:00Z")
    old = PriceBook("old", 1, 0, (ITEMS[0],))
    new = PriceBook("new", 1, midnight, (BookItem("prompt_tokens", 5),))
    event = UsageEvent(
        "u",
        "inference",
        "acme",
        "web",
        midnight - 1,
        midnight + 9,
        {"prompt_tokens": 1},
        admitted_ms=midnight - 1,
    )
    assert [line.price and line.price.book for line in rate(event, [old, new])] == ["old"]
    contract = PriceBook("contract", 1, 0, (BookItem("prompt_tokens", 7),), until_ms=midnight, tenant="acme")
    assert [line.price and line.price.book for line in rate(event, [old, new, contract])] == ["contract"]
    assert price(midnight, new) == 5
    by_its_end = UsageEvent("u", "device", "acme", "web", midnight - 1, midnight, {"prompt_tokens": 1})
    assert [line.price and line.price.book for line in rate(by_its_end, [old, new, contract])] == ["new"]


def test_clocks_are_monotone_but_for_the_hour_that_comes_twice() -> None:
    begin = at("2026-01-01T00:00:00Z")
    shown = [local_ms(begin + n * HOUR_MS, BERLIN) for n in range(365 * 24)]
    assert sorted({later - earlier for earlier, later in pairwise(shown)}) == [0, HOUR_MS, 2 * HOUR_MS]


@given(
    st.sampled_from(
        ["22:00-06:00", "Mon 00:00-24:00", "Sun 23:00-01:00", "Sat,Sun 10:00-11:00", "08:00-20:00"]
    )
)
def test_the_minutes_of_a_window_are_those_at_which_it_is_open(text: str) -> None:
    window = parse_weekly(text)
    monday_ms = 4 * 24 * HOUR_MS
    opened = {n for n in range(7 * 24 * 60) if window.open_at(monday_ms + n * MINUTE_MS)}
    assert window.minutes() == opened
