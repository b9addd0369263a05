"""Items of price books: what is refused names its path, and what is taken has one price at every moment."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.events import UsageEvent
from billing.core.rating import rate
from billing.store.books import book_of
from common.clock import VirtualClock, parse_rfc3339, rfc3339
from common.errors import InvalidInput
from common.resources import Endpoint, Metadata, Model, Price, Project, Resource, parse_resource
from common.resources.money import PriceItem, PriceSpec
from common.resources.people import ProjectSpec
from common.resources.serving import EndpointSpec, ModelSpec
from common.settings import Settings
from common.store.memory import MemoryStore
from control.admission.lookup import References
from control.admission.price_items import check_items
from control.admission.prices import check_beginning, check_prices
from control.admission.warnings import warnings_of

NOW = parse_rfc3339("2026-03-01T12:00:00Z")
ITEM = {"meter": "prompt_tokens", "microcreditsPerMillion": 5}


def price(*items: dict[str, Any], name: str = "book", **spec: Any) -> Price:
    """A book as a file has it. Raises ``InvalidInput``."""
    made = parse_resource(
        {
            "apiVersion": "computility.io/v1alpha1",
            "kind": "Price",
            "metadata": {"name": name},
            "spec": {"items": [{**ITEM, **item} for item in items], **spec},
        }
    )
    assert isinstance(made, Price)
    return made


WRONG: list[tuple[list[dict[str, Any]], str]] = [
    ([{"microcreditsPerMillion": -1}], "spec.items[0].microcreditsPerMillion"),
    (
        [{"tiers": [{"above": 10, "microcreditsPerMillion": -1}]}],
        "spec.items[0].tiers[0].microcreditsPerMillion",
    ),
    ([{"tiers": [{"above": 0, "microcreditsPerMillion": 1}]}], "spec.items[0].tiers[0].above"),
    (
        [{}, {"model": "m", "tiers": [{"above": above, "microcreditsPerMillion": 1} for above in (9, 9)]}],
        "spec.items[1].tiers[1].above",
    ),
    ([{"meter": "cups"}], "spec.items[0].meter"),
    ([{"currency": "EUR"}], "spec.items[0].currency"),
    ([{"hours": "25:00-26:00"}], "spec.items[0].hours"),
    ([{"hours": "Moonday 01:00-02:00"}], "spec.items[0].hours"),
    ([{"adapter": "tuned"}], "spec.items[0].adapter"),
    ([{"adapter": "ft:tiny:acme::1"}], "spec.items[0].adapter"),
    ([{"meter": "device_seconds", "adapter": "a/b"}], "spec.items[0].adapter"),
    ([{"serviceTier": "no tier"}], "spec.items[0].serviceTier"),
    ([{}, {}], "spec.items[1]"),
    ([{"deviceClass": "nvidia/H100"}, {"deviceClass": "NVIDIA/h100"}], "spec.items[1]"),
    ([{}, {"hours": "22:00-06:00"}, {"hours": "Mon 05:00-07:00"}], "spec.items[2].hours"),
    ([{"hours": "22:00-06:00"}], "spec.items[0].hours"),
    ([{"model": "a"}, {"hours": "22:00-06:00"}], "spec.items[1].hours"),
    ([{"hours": "06:00-22:00"}, {"hours": "22:00-05:59"}], "spec.items[0].hours"),
]


@pytest.mark.parametrize(("items", "path"), WRONG)
def test_what_is_wrong_is_refused_with_its_path(items: list[dict[str, Any]], path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_prices(price(*items), None, NOW)
    paths = {problem.path for problem in refused.value.problems} | {refused.value.param}
    assert path in paths


@pytest.mark.parametrize(
    "items",
    [
        [{}, {"hours": "22:00-06:00"}, {"hours": "Sat,Sun 06:00-22:00"}],
        [{"hours": "06:00-22:00"}, {"hours": "22:00-06:00"}],
        [{}, {"model": "m", "hours": "22:00-06:00"}],
        [{}, {"meter": "cached_tokens", "hours": "22:00-06:00"}],
        [{}, {"adapter": "acme/tuned"}, {"serviceTier": "batch"}],
        [{"tiers": [{"above": 1, "microcreditsPerMillion": 0}, {"above": 2, "microcreditsPerMillion": 9}]}],
    ],
)
def test_what_is_sound_is_taken(items: list[dict[str, Any]]) -> None:
    check_prices(price(*items), None, NOW)


def test_a_contract_may_hold_for_some_hours_only_and_the_book_for_all_for_the_rest() -> None:
    check_items(price({"hours": "22:00-06:00"}, tenant="acme").spec)


def test_zones_and_hours_are_known_ones() -> None:
    with pytest.raises(InvalidInput) as refused:
        price({}, timeZone="Mars/Base")
    assert refused.value.param == "spec.timeZone"


def test_clocks_of_a_book_in_force_stay() -> None:
    old = price({}, timeZone="Asia/Shanghai")
    check_prices(old, None, NOW)
    check_prices(price({}, timeZone="Asia/Shanghai"), old, NOW + 9)
    with pytest.raises(InvalidInput, match="in force"):
        check_prices(price({}), old, NOW + 9)


def test_two_books_do_not_begin_together() -> None:
    later = rfc3339(NOW + 5)
    one, two = price({}, effectiveFrom=later), price({}, name="two", effectiveFrom=later)
    with pytest.raises(InvalidInput, match="Price/book begins") as refused:
        check_beginning(two, [one, two])
    assert refused.value.param == "spec.effectiveFrom"
    check_beginning(two, [price({}, effectiveFrom=later, tenant="acme"), two])
    check_beginning(two, [price({}, effectiveFrom=rfc3339(NOW + 6)), two])


HOURS = st.sampled_from([None, "22:00-06:00", "06:00-22:00", "Mon-Fri 08:00-12:00", "Sat,Sun 00:00-24:00"])


@given(
    st.lists(HOURS, min_size=1, max_size=4),
    st.integers(NOW, NOW + 400 * 24 * 3_600_000),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
)
def test_a_book_that_is_taken_has_one_price_at_every_moment(
    hours: list[str | None], at_ms: int, zone: str
) -> None:
    items = [
        PriceItem(meter="prompt_tokens", microcredits_per_million=number, hours=one)
        for number, one in enumerate(hours)
    ]
    made = Price(metadata=Metadata(name="b"), spec=PriceSpec(items=items, time_zone=zone))
    try:
        check_items(made.spec)
    except InvalidInput:
        return
    event = UsageEvent("u", "inference", "acme", "web", at_ms, at_ms, {"prompt_tokens": 1}, admitted_ms=at_ms)
    forward, backward = book_of(made), book_of(made)
    backward = type(backward)(backward.name, 0, 0, tuple(reversed(backward.items)), zone=backward.zone)
    prices = []
    for book in (forward, backward):
        [line] = rate(event, [book])
        assert line.price is not None
        prices.append(line.price.item)
    assert prices[0] == prices[1]


async def told(book: Price, *there: Resource) -> list[str]:
    store = MemoryStore(VirtualClock())
    for one in there:
        await store.apply(one)
    return await warnings_of(book, References(store, [book], Settings(), NOW))


def world() -> list[Resource]:
    """A tenant's own Model that is served to itself, and a shared one that is served to all."""
    made: list[Resource] = []
    for project, name, shared in (("web", "own", False), ("hub", "tiny", True)):
        made += [
            Project(metadata=Metadata(name=project), spec=ProjectSpec(tenant=f"of-{project}")),
            Model(metadata=Metadata(name=name, project=project), spec=ModelSpec(source="s", shared=shared)),
            Endpoint(
                metadata=Metadata(name="chat", project=project), spec=EndpointSpec(model=name, shared=shared)
            ),
        ]
    return made


async def test_a_book_that_leaves_something_sold_without_a_price_is_told_of() -> None:
    completion = {"meter": "completion_tokens"}
    assert await told(price({}, completion), *world()) == []
    [warning] = await told(price({}, {**completion, "model": "tiny"}), *world())
    assert warning.startswith(
        "spec.items: from 2026-03-01T12:00:00.000Z on there is no price for completion_tokens"
    )
    assert "completion_tokens of web/own;" in warning
    [warning] = await told(price({}, completion, effectiveUntil=rfc3339(NOW + 60_000)), *world())
    assert warning.startswith("spec.effectiveUntil: from 2026-03-01T12:01:00.000Z on")
    for one in ("prompt_tokens of web/own", "completion_tokens of hub/tiny"):
        assert one in warning


async def test_a_contract_that_ends_falls_back_to_the_book_for_all() -> None:
    completion = {"meter": "completion_tokens"}
    standard = price({}, completion, name="standard", effectiveFrom="2026-01-01T00:00:00Z")
    contract = price({}, tenant="of-web", effectiveUntil=rfc3339(NOW + 60_000))
    assert await told(contract, standard, *world()) == []
    warnings = await told(contract, *world())
    assert len(warnings) == 2
    assert "hub/tiny" in warnings[0]
