"""Which price a meter gets, and that the arithmetic is exact."""

from dataclasses import replace
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.events import MAX_QUANTITY, UsageEvent, UsageKind
from billing.core.rating import BookItem, PriceBook, Rates, amount_microcredits, pick_item, rate
from common.vocabulary import odd_character

QUANTITIES = st.integers(0, MAX_QUANTITY)
PRICES = st.integers(0, 10**12)
NAMES = st.sampled_from(("big-70b", "small-1b", "p/x", "*")) | st.text(
    st.characters(codec="utf-8"), max_size=100
).filter(lambda name: odd_character(name) is None)


def event(
    *,
    kind: UsageKind = "inference",
    tenant: str = "acme",
    ended_ms: int = 1000,
    model: str = "tiny",
    base_model: str = "",
    identity: str = "platform/tiny",
    shared: bool = True,
    device_class: str = "nvidia/H100",
    **quantities: int,
) -> UsageEvent:
    return UsageEvent(
        "use-1",
        kind,
        tenant,
        "web",
        0,
        ended_ms,
        quantities,
        model=model,
        base_model=base_model,
        model_identity=identity,
        model_shared=shared,
        device_class=device_class,
    )


def book(*items: BookItem, name: str = "standard", **changes: object) -> PriceBook:
    values = {"name": name, "version": 1, "from_ms": 0, "items": items}
    return PriceBook(**{**values, **changes})  # type: ignore[arg-type]


def prompt(price: int, model: str = "*", device_class: str = "*") -> BookItem:
    return BookItem("prompt_tokens", price, model, device_class)


class TestAmount:
    @given(QUANTITIES, PRICES)
    def test_it_is_the_exact_product_rounded_half_up(self, quantity: int, price: int) -> None:
        exact = Fraction(quantity) * Fraction(price, 1_000_000)
        assert amount_microcredits(quantity, price) == floor(exact + Fraction(1, 2))

    @given(QUANTITIES, QUANTITIES, PRICES)
    def test_more_never_costs_less(self, one: int, two: int, price: int) -> None:
        less, more = sorted((one, two))
        assert amount_microcredits(less, price) <= amount_microcredits(more, price)
        assert amount_microcredits(price, less) <= amount_microcredits(price, more)

    @given(QUANTITIES, PRICES)
    def test_it_fits_the_database(self, quantity: int, price: int) -> None:
        assert 0 <= amount_microcredits(quantity, price) < 2**63

    @pytest.mark.parametrize(
        ("quantity", "price", "amount"),
        [(1, 499_999, 0), (1, 500_000, 1), (3, 500_000, 2), (0, 10**12, 0), (1_000_000, 7, 7)],
    )
    def test_examples(self, quantity: int, price: int, amount: int) -> None:
        assert amount_microcredits(quantity, price) == amount


class TestBooks:
    @given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
    def test_a_book_holds_from_its_first_moment_to_before_its_last(
        self, start: int, end: int, at: int
    ) -> None:
        found = Rates([book(prompt(1), from_ms=start, until_ms=end)]).books_for(event(ended_ms=at))
        assert bool(found) == (start <= at < end)

    @given(st.lists(st.integers(0, 100), min_size=1, unique=True), st.integers(0, 120))
    def test_a_book_is_in_force_until_the_next_begins(self, starts: list[int], at: int) -> None:
        books = [book(prompt(1), name=f"from-{start}", from_ms=start) for start in starts]
        found = Rates(books).books_for(event(ended_ms=at))
        begun = [start for start in starts if start <= at]
        assert [b.from_ms for b in found] == ([max(begun)] if begun else [])

    def test_the_tenant_s_own_book_is_asked_before_the_newer_one_for_all(self) -> None:
        own = book(prompt(1), name="own", tenant="acme", from_ms=10)
        general = book(prompt(2), name="general", from_ms=20)
        other = book(prompt(3), name="other", tenant="umbrella", from_ms=30)
        assert Rates([other, general, own]).books_for(event(ended_ms=50)) == (own, general)
        assert Rates([other, general, own]).books_for(event(ended_ms=50, tenant="nobody")) == (general,)

    def test_what_the_tenant_s_own_book_lacks_comes_from_the_one_for_all(self) -> None:
        own = book(prompt(1_000_000), name="own", tenant="acme")
        general = book(prompt(9_000_000), BookItem("completion_tokens", 2_000_000), name="general")
        lines = rate(event(prompt_tokens=5, completion_tokens=5), [general, own])
        assert [(line.microcredits, line.price and line.price.book) for line in lines] == [
            (5, "own"),
            (10, "general"),
        ]

    def test_of_two_that_begin_together_the_choice_is_stable(self) -> None:
        a, b = book(prompt(1), name="a"), book(prompt(2), name="b")
        assert Rates([a, b]).books_for(event()) == Rates([b, a]).books_for(event()) == (b,)


class TestItems:
    def test_the_model_decides_before_the_device_class(self) -> None:
        items = (
            prompt(1),
            prompt(2, device_class="nvidia/H100"),
            prompt(3, model="tiny"),
            prompt(4, model="tiny", device_class="nvidia/H100"),
        )
        for end in range(4, 0, -1):
            assert pick_item(book(*items[:end]), event(), "prompt_tokens") == items[end - 1]

    def test_a_model_is_named_by_its_project_or_as_a_shared_one_or_not_at_all(self) -> None:
        exact, shared, rest = prompt(1, model="platform/tiny"), prompt(2, model="tiny"), prompt(3)
        assert pick_item(book(rest, shared, exact), event(), "prompt_tokens") == exact
        assert pick_item(book(rest, shared), event(), "prompt_tokens") == shared
        assert pick_item(book(rest), event(), "prompt_tokens") == rest

    def test_an_adapter_costs_what_its_base_costs(self) -> None:
        adapter = event(model="ft:tiny:acme::1", base_model="tiny")
        own, base = prompt(1, model="ft:tiny:acme::1"), prompt(2, model="tiny")
        assert pick_item(book(own, base), adapter, "prompt_tokens") == base
        assert pick_item(book(own), adapter, "prompt_tokens") is None

    def test_a_tenant_s_own_model_named_like_a_shared_one_does_not_get_its_price(self) -> None:
        own = event(identity="evil/tiny", shared=False)
        assert pick_item(book(prompt(2, model="tiny")), own, "prompt_tokens") is None
        assert pick_item(book(prompt(2, model="platform/tiny")), own, "prompt_tokens") is None
        assert pick_item(book(prompt(2, model="evil/tiny")), own, "prompt_tokens") is not None

    @given(NAMES, NAMES, st.sampled_from(("big-70b", "small-1b", "*", "p/x")))
    def test_no_name_that_a_tenant_gives_changes_what_its_usage_costs(
        self, served: str, base: str, priced: str
    ) -> None:
        used = event(model="big-70b", base_model="big-70b", identity="platform/big-70b")
        renamed = event(model=served, base_model=base, identity="platform/big-70b")
        books = book(prompt(5, model="big-70b"), prompt(1, model=priced), prompt(3))
        assert pick_item(books, renamed, "prompt_tokens") == pick_item(books, used, "prompt_tokens")

    @pytest.mark.parametrize("identity", ["", "platform/tiny"])
    def test_device_time_has_a_price_by_device_class_only(self, identity: str) -> None:
        by_model = BookItem("device_seconds", 1, model="tiny")
        by_class = BookItem("device_seconds", 2, device_class="nvidia/H100")
        used = event(kind="device", identity=identity, shared=bool(identity))
        assert pick_item(book(by_model, by_class), used, "device_seconds") == by_class
        assert pick_item(book(by_model), used, "device_seconds") is None

    def test_an_event_from_before_models_were_named_keeps_the_price_of_its_name(self) -> None:
        old = event(model="ft:tiny:acme::1", base_model="tiny", identity="", shared=False)
        assert pick_item(book(prompt(2, model="tiny"), prompt(3)), old, "prompt_tokens") == prompt(2, "tiny")

    def test_other_models_devices_and_meters_do_not_fit(self) -> None:
        items = (
            prompt(1, model="other"),
            prompt(1, device_class="amd/MI300X"),
            BookItem("completion_tokens", 1),
        )
        assert pick_item(book(*items), event(), "prompt_tokens") is None

    def test_the_device_class_is_compared_without_regard_to_case(self) -> None:
        item = prompt(1, device_class="NVIDIA/h100")
        assert pick_item(book(item), event(), "prompt_tokens") == item

    def test_an_adapter_of_its_own_price_has_that_before_any_price_of_its_base(self) -> None:
        own = BookItem("prompt_tokens", 9, adapter="acme/tuned")
        base = prompt(2, model="tiny", device_class="nvidia/H100")
        asked = replace(event(model="ft:tiny:acme::1", base_model="tiny"), adapter_identity="acme/tuned")
        assert pick_item(book(base, own), asked, "prompt_tokens") == own
        assert (
            pick_item(book(base, own), replace(asked, adapter_identity="evil/tuned"), "prompt_tokens") == base
        )
        assert pick_item(book(base, own), event(model="acme/tuned"), "prompt_tokens") == base

    def test_a_service_tier_decides_after_the_model_and_the_device_class(self) -> None:
        batch, usual = BookItem("prompt_tokens", 1, service_tier="batch"), prompt(2)
        assert pick_item(book(usual, batch), replace(event(), service_tier="batch"), "prompt_tokens") == batch
        assert pick_item(book(usual, batch), event(), "prompt_tokens") == usual
        assert pick_item(book(usual, batch), replace(event(), service_tier="flex"), "prompt_tokens") == usual
        exact = prompt(3, model="tiny")
        assert pick_item(book(batch, exact), replace(event(), service_tier="batch"), "prompt_tokens") == exact

    def test_of_equally_exact_items_the_first_counts(self) -> None:
        assert pick_item(book(prompt(1), prompt(2)), event(), "prompt_tokens") == prompt(1)


class TestRate:
    def test_cached_tokens_have_their_price_and_the_rest_of_the_prompt_another(self) -> None:
        books = [book(prompt(2_000_000), BookItem("cached_tokens", 1_000_000))]
        lines = rate(event(prompt_tokens=10, cached_tokens=4), books)
        assert [(line.meter, line.quantity, line.microcredits) for line in lines] == [
            ("prompt_tokens", 6, 12),
            ("cached_tokens", 4, 4),
        ]

    def test_without_a_cached_price_they_cost_as_much_as_the_prompt(self) -> None:
        lines = rate(event(prompt_tokens=10, cached_tokens=4), [book(prompt(2_000_000))])
        assert [(line.meter, line.quantity, line.microcredits) for line in lines] == [
            ("prompt_tokens", 6, 12),
            ("cached_tokens", 4, 8),
        ]
        assert lines[1].price is not None
        assert lines[1].price.item.meter == "prompt_tokens"

    def test_the_tenant_s_prompt_price_wins_over_a_general_cached_price(self) -> None:
        own = book(prompt(1_000_000), name="own", tenant="acme")
        general = book(BookItem("cached_tokens", 9_000_000), name="general")
        assert rate(event(prompt_tokens=4, cached_tokens=4), [own, general])[0].microcredits == 4

    def test_a_missing_price_is_no_error_but_is_seen(self) -> None:
        (line,) = rate(event(prompt_tokens=10), [])
        assert (line.microcredits, line.unpriced, line.price) == (0, True, None)

    def test_a_price_of_zero_is_a_price(self) -> None:
        (line,) = rate(event(prompt_tokens=10), [book(prompt(0))])
        assert (line.microcredits, line.unpriced) == (0, False)

    def test_the_price_is_pinned(self) -> None:
        (line,) = rate(event(prompt_tokens=10), [book(prompt(3), name="spring", version=42)])
        assert line.price is not None
        assert (line.price.book, line.price.version, line.price.item) == ("spring", 42, prompt(3))

    def test_training_and_device_time_are_metered_too(self) -> None:
        books = [book(BookItem("trained_tokens", 3_000_000), BookItem("device_seconds", 5_000_000))]
        assert rate(event(kind="training", trained_tokens=2), books)[0].microcredits == 6
        assert rate(event(kind="device", device_seconds=60), books)[0].microcredits == 300

    @given(QUANTITIES, QUANTITIES, QUANTITIES)
    def test_no_token_is_lost_or_billed_twice(self, uncached: int, cached: int, completion: int) -> None:
        uncached = min(uncached, MAX_QUANTITY - cached)
        used = event(prompt_tokens=uncached + cached, cached_tokens=cached, completion_tokens=completion)
        lines = {line.meter: line.quantity for line in rate(used, [book(prompt(1))])}
        expected = {"prompt_tokens": uncached, "cached_tokens": cached, "completion_tokens": completion}
        assert lines == {meter: quantity for meter, quantity in expected.items() if quantity}
