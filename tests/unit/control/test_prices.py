"""What a price book may hold, and that nobody changes the price of the past."""

from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.core.events import UsageEvent
from billing.core.rating import RatedLine, rate
from billing.store.books import book_of
from common.clock import rfc3339
from common.errors import Conflict, InvalidInput
from common.resources import Metadata, Price
from common.resources.money import Meter, PriceItem, PriceSpec
from control.admission.prices import check_price_delete, check_prices

START = "2026-01-01T00:00:00Z"


def book(model: str, meter: Meter = "prompt_tokens") -> Price:
    item = PriceItem(meter=meter, model=model, microcredits_per_million=1)
    return Price(metadata=Metadata(name="book"), spec=PriceSpec(effective_from=START, items=[item]))


@pytest.mark.parametrize("model", ["*", "tiny", "qwen2.5-7b", "platform/tiny"])
def test_an_item_names_a_model_by_its_project_or_as_a_shared_one(model: str) -> None:
    check_prices(book(model), None, 0)


@pytest.mark.parametrize("model", ["Tiny", "ft:tiny:acme::1", "a/b/c", "/tiny", "platform/"])
def test_an_item_that_could_never_match_is_refused(model: str) -> None:
    with pytest.raises(InvalidInput, match="project/name") as refused:
        check_prices(book(model), None, 0)
    assert refused.value.param == "spec.items[0].model"


def test_device_time_has_no_price_by_model() -> None:
    check_prices(book("*", "device_seconds"), None, 0)
    with pytest.raises(InvalidInput, match="deviceClass"):
        check_prices(book("tiny", "device_seconds"), None, 0)


def test_a_book_with_an_odd_name_of_before_stays_as_it_is() -> None:
    check_prices(book("My Model"), book("My Model"), 0)


def test_a_book_that_says_no_beginning_begins_when_it_is_made_and_keeps_that() -> None:
    made, again = book("*"), book("*")
    made.spec.effective_from = again.spec.effective_from = None
    check_prices(made, None, 5000)
    check_prices(again, made, 9000)
    assert made.spec.effective_from == again.spec.effective_from == rfc3339(5000)


@dataclass
class Office:
    """Prices as an administrator can write them, at a time that only goes on."""

    now_ms: int = 1000
    books: dict[str, Price] = field(default_factory=dict)

    def write(self, name: str, price: int, tenant: str | None, begin: int | None, end: int | None) -> None:
        item = PriceItem(meter="prompt_tokens", microcredits_per_million=price)
        spec = PriceSpec(
            effective_from=None if begin is None else rfc3339(max(0, self.now_ms + begin)),
            effective_until=None if end is None else rfc3339(max(0, self.now_ms + end)),
            tenant=tenant,
            items=[item],
        )
        old = self.books.get(name)
        created_ms = old.metadata.created_ms if old else self.now_ms
        new = Price(metadata=Metadata(name=name, created_ms=created_ms), spec=spec)
        check_prices(new, old, self.now_ms)
        self.books[name] = new

    def delete(self, name: str) -> None:
        if name in self.books:
            check_price_delete(self.books[name], self.now_ms)
            del self.books[name]

    def rate(self, ended_ms: int) -> tuple[RatedLine, ...]:
        event = UsageEvent("e", "inference", "acme", "web", 0, ended_ms, {"prompt_tokens": 10**6})
        return rate(event, [book_of(price) for price in self.books.values()])


NAMES = st.sampled_from(["a", "b", "c"])
OFFSETS = st.none() | st.integers(-30, 60)
WRITES = st.tuples(
    st.just("write"), NAMES, st.integers(0, 3), st.sampled_from([None, "acme"]), OFFSETS, OFFSETS
)
DELETES = st.tuples(st.just("delete"), NAMES)
STEPS = st.lists(WRITES | DELETES | st.tuples(st.just("wait"), st.integers(1, 40)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_the_price_of_a_moment_never_changes_once_it_is_over(steps: list[tuple[object, ...]]) -> None:
    """Whatever is written, ended, deleted and made anew, for all tenants or for one."""
    office = Office()
    settled: dict[int, tuple[RatedLine, ...]] = {}
    for step, *values in steps:
        for at in range(max(settled, default=980) + 1, office.now_ms):
            settled[at] = office.rate(at)
        with suppress(InvalidInput, Conflict):
            if step == "wait":
                office.now_ms += int(str(values[0]))
            else:
                getattr(office, str(step))(*values)
        for at, lines in settled.items():
            assert [(line.microcredits, line.price and line.price.book) for line in office.rate(at)] == [
                (line.microcredits, line.price and line.price.book) for line in lines
            ]
