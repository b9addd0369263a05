"""A dry run of prices: what is charged under a book is what trying it had said."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from billing.core.events import UsageEvent
from billing.core.rating import BookItem, PriceBook, Rates
from billing.core.trial import MAX_NAMED, Trial
from billing.core.volume import Tier

OLD = PriceBook("old", 1, 0, (BookItem("prompt_tokens", 2_000_000),))
TIERED = BookItem("prompt_tokens", 1_500_000, tiers=(Tier(50, 500_000),))
NEW = PriceBook("new", 1, 9_000_000, (TIERED, BookItem("completion_tokens", 7_000_000)))
CONTRACT = PriceBook("contract", 1, 0, (BookItem("prompt_tokens", 1_000_000),), tenant="acme")


def used(tenant: str, prompt: int, completion: int = 0, at_ms: int = 1000) -> UsageEvent:
    quantities = {"prompt_tokens": prompt, "completion_tokens": completion}
    return UsageEvent("u", "inference", tenant, "p", at_ms, at_ms, quantities, model_identity="p/m")


EVENTS = st.lists(
    st.builds(used, st.sampled_from(["acme", "umbrella"]), st.integers(0, 60), st.integers(0, 60)),
    max_size=12,
)


@given(EVENTS)
def test_it_says_what_posting_them_under_the_new_book_would_charge(events: list[UsageEvent]) -> None:
    trial = Trial([OLD, CONTRACT], [NEW])
    for event in events:
        trial.add(event, sum(line.microcredits for line in Rates([OLD]).lines(event)))
    answer = trial.to_dict()
    rates, counts = Rates([replace(NEW, from_ms=0), CONTRACT]), dict[str, dict[str, int]]()
    expected: dict[str, int] = {}
    for event in events:
        for line in rates.lines(event, counts.setdefault(event.tenant, {})):
            expected[event.tenant] = expected.get(event.tenant, 0) + line.microcredits
            if line.counter is not None:
                counts[event.tenant][line.counter] = line.before + line.quantity
    found = {one["tenant"]: one for one in answer["tenants"]}
    assert {name: one["microcredits"] for name, one in found.items() if one["microcredits"]} == {
        name: amount for name, amount in expected.items() if amount
    }
    for one in (*found.values(), answer["total"]):
        assert one["difference_microcredits"] == one["microcredits"] - one["charged_microcredits"]
    assert answer["total"]["events"] == len(events)
    assert answer["total"]["microcredits"] == sum(expected.values())


def test_what_would_have_no_price_is_named_and_the_names_are_bounded() -> None:
    trial = Trial([OLD], [PriceBook("new", 1, 0, (BookItem("prompt_tokens", 1),))])
    for number in range(MAX_NAMED + 5):
        trial.add(replace(used("acme", 1, 1), model_identity=f"p/m{number}"), 2)
    assert trial.to_dict()["total"]["unpriced_lines"] == MAX_NAMED + 5
    assert len(trial.unpriced) == MAX_NAMED
    assert next(iter(trial.unpriced)) == "completion_tokens of p/m0"


def test_a_new_contract_replaces_the_old_one_and_nothing_else() -> None:
    trial = Trial([OLD, CONTRACT], [replace(CONTRACT, name="better", from_ms=10**9, items=(TIERED,))])
    trial.add(used("acme", 60), 60)
    trial.add(used("umbrella", 60), 120)
    amounts = {one["tenant"]: one["microcredits"] for one in trial.to_dict()["tenants"]}
    assert amounts == {"acme": 75 + 5, "umbrella": 120}
