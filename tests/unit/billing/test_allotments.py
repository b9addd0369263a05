"""Allotments: nothing is taken twice, parts add up exactly, and what is reversed can be used again."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.allotments import Allotment, Taken, draw, give_back, in_order, refund_microcredits
from billing.core.events import UsageEvent
from billing.core.ledger import (
    Transaction,
    end_transaction,
    order_transaction,
    reversal_of,
    usage_transaction,
)
from billing.core.rating import BookItem, PriceBook, Rates, amount_microcredits

RATES = Rates(
    [
        PriceBook(
            "standard",
            1,
            0,
            (
                BookItem("prompt_tokens", 1_234_567),
                BookItem("completion_tokens", 7_654_321),
                BookItem("prompt_tokens", 0, model="free"),
                BookItem("device_seconds", 500_000_000),
            ),
        )
    ]
)
PACK = Allotment("acme/pack", "acme", "tokens", 1000, 777, 0, 1000)
VOUCHER = Allotment("acme/voucher", "acme", "microcredits", 5000, 0, 0, 1000)


def used(id_: str, prompt: int, completion: int = 0, at_ms: int = 10, model: str = "pub/chat") -> UsageEvent:
    quantities = {"prompt_tokens": prompt, "completion_tokens": completion}
    return UsageEvent(
        id_,
        "inference",
        "acme",
        "web",
        at_ms,
        at_ms,
        quantities,
        model_identity=model,
        model_shared=True,
        admitted_ms=at_ms,
    )


def posted(
    events: Sequence[UsageEvent], allotments: Sequence[Allotment], taken: dict[str, Taken]
) -> list[Transaction]:
    made = []
    for event in events:
        lines = RATES.lines(event)
        draws = draw(event, lines, in_order(allotments), taken)
        made.append(usage_transaction(event, [*lines, *(one.line for one in draws)], draws))
    return made


def balances(transactions: Sequence[Transaction]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for one in transactions:
        for entry in one.entries:
            sums[entry.account] = sums.get(entry.account, 0) + entry.microcredits
    return {account: sum_ for account, sum_ in sums.items() if sum_}


AMOUNTS = st.integers(0, 400)
EVENTS = st.lists(
    st.tuples(AMOUNTS, AMOUNTS, st.integers(0, 2500), st.sampled_from(["pub/chat", "pub/code"])), max_size=12
).map(lambda many: [used(f"use-{number}", *one) for number, one in enumerate(many)])
ALLOTMENTS = st.lists(
    st.builds(
        lambda unit, granted, price, from_ms, span, carried, models: Allotment(
            "", "acme", unit, granted, price, from_ms, from_ms + span, carried[0], carried[1], models
        ),
        st.sampled_from(["tokens", "microcredits"]),
        st.integers(1, 2000),
        st.integers(0, 10**6),
        st.integers(0, 1000),
        st.integers(1, 1500),
        st.sampled_from([(0, 0), (50, 2200)]),
        st.sampled_from([(), ("chat",), ("pub/code",)]),
    ),
    max_size=5,
).map(lambda many: [replace(one, id=f"acme/{number}") for number, one in enumerate(many)])


@given(EVENTS, ALLOTMENTS)
def test_parts_and_money_add_up_and_nothing_is_taken_twice(
    events: list[UsageEvent], allotments: list[Allotment]
) -> None:
    taken: dict[str, Taken] = {}
    for transaction, event in zip(posted(events, allotments, taken), events, strict=True):
        money = transaction.entries[0].microcredits
        lines = [entry.line for entry in transaction.entries if entry.line]
        listed = sum(line.microcredits for line in RATES.lines(event))
        assert 0 <= money <= listed
        assert money == sum(line.microcredits for line in lines)
    for terms in allotments:
        took = taken.get(terms.id, Taken())
        assert 0 <= took.carried <= max(terms.carried, 0)
        assert took.carried <= took.used <= terms.granted


@given(EVENTS, ALLOTMENTS)
def test_what_is_paid_beforehand_is_earned_by_what_is_used_also_after_reversals(
    events: list[UsageEvent], allotments: list[Allotment]
) -> None:
    taken: dict[str, Taken] = {}
    made = posted(events, allotments, taken)
    for number, (event, transaction) in enumerate(zip(events, list(made), strict=True)):
        if number % 2:
            made.append(_reversed(event, transaction, allotments, taken))
    owed = balances([*made, *(order_transaction(one, "") for one in allotments)])
    for terms in allotments:
        used_now = taken.get(terms.id, Taken()).used
        assert owed.get(f"prepaid:{terms.id}", 0) == terms.earned(used_now) - terms.price_microcredits
    assert sum(owed.values()) == 0


def _reversed(
    event: UsageEvent, transaction: Transaction, allotments: Sequence[Allotment], taken: dict[str, Taken]
) -> Transaction:
    back = []
    for entry in transaction.entries:
        for terms in allotments:
            if entry.line and entry.line.price and entry.line.price.book == terms.id:
                back.append(give_back(terms, event, entry.line, taken))
    return reversal_of(transaction, "wrong", back)


@given(EVENTS, ALLOTMENTS)
def test_reversing_all_restores_every_allotment(
    events: list[UsageEvent], allotments: list[Allotment]
) -> None:
    taken: dict[str, Taken] = {}
    made = posted(events, allotments, taken)
    back = [_reversed(event, one, allotments, taken) for event, one in zip(events, made, strict=True)]
    assert set(taken.values()) <= {Taken()}
    assert balances([*made, *back]) == {}


@given(EVENTS, st.permutations(range(12)), st.integers(1, 5000), st.integers(1, 5000))
def test_vouchers_come_to_the_same_in_any_order(
    events: list[UsageEvent], order: list[int], first: int, second: int
) -> None:
    vouchers = [
        replace(VOUCHER, granted=first, until_ms=1200),
        replace(VOUCHER, id="acme/later", granted=second, until_ms=2600),
    ]
    shuffled = [events[place] for place in order if place < len(events)]
    one: dict[str, Taken] = {}
    other: dict[str, Taken] = {}
    assert balances(posted(events, vouchers, one)) == balances(posted(shuffled, vouchers, other))
    assert one == other


@given(EVENTS, st.permutations(range(12)), st.integers(1, 3000))
def test_a_pack_gives_as_many_tokens_in_any_order(
    events: list[UsageEvent], order: list[int], granted: int
) -> None:
    packs = [
        replace(PACK, granted=granted, until_ms=1200),
        replace(PACK, id="acme/later", granted=granted, until_ms=2600),
    ]
    shuffled = [events[place] for place in order if place < len(events)]
    one: dict[str, Taken] = {}
    other: dict[str, Taken] = {}
    posted(events, packs, one)
    posted(shuffled, packs, other)
    assert {id_: taken.used for id_, taken in one.items()} == {
        id_: taken.used for id_, taken in other.items()
    }


def test_a_voucher_that_runs_out_in_an_answer_pays_for_a_part_of_it() -> None:
    event = used("use-1", 1000, 500)
    assert [line.microcredits for line in RATES.lines(event)] == [1235, 3827]
    taken: dict[str, Taken] = {}
    [transaction] = posted([event], [VOUCHER], taken)
    assert balances([transaction]) == {
        "receivable:acme/web": 62,
        "covered:microcredits": 5000,
        "revenue:prompt_tokens": -1235,
        "revenue:completion_tokens": -3827,
    }
    assert taken == {VOUCHER.id: Taken(5000)}


def test_packs_come_before_vouchers_and_what_stays_costs_what_it_would_alone() -> None:
    taken: dict[str, Taken] = {}
    [transaction] = posted([used("use-1", 700, 500)], [VOUCHER, PACK], taken)
    left = amount_microcredits(200, 7_654_321)
    assert taken == {PACK.id: Taken(1000), VOUCHER.id: Taken(left)}
    assert transaction.entries[0].microcredits == 0
    assert balances([transaction])["prepaid:acme/pack"] == 777


@pytest.mark.parametrize(
    ("terms", "event", "units"),
    [
        (PACK, used("u", 10, at_ms=999), 10),
        (PACK, used("u", 10, at_ms=1000), 0),
        (replace(PACK, from_ms=11), used("u", 10, at_ms=10), 0),
        (replace(PACK, carried=4, carried_until_ms=2000), used("u", 10, at_ms=1999), 4),
        (replace(PACK, carried=4, carried_until_ms=2000), used("u", 10, at_ms=2000), 0),
        (replace(PACK, models=("chat",)), used("u", 10), 10),
        (replace(PACK, models=("chat",)), replace(used("u", 10), model_shared=False), 0),
        (replace(PACK, models=("pub/chat",)), replace(used("u", 10), model_shared=False), 10),
        (replace(PACK, models=("pub/other",)), used("u", 10), 0),
        (replace(PACK, unit="trained_tokens"), used("u", 10), 0),
        (PACK, used("u", 10, model="pub/free"), 0),
        (replace(PACK, device_class="nvidia/H100"), used("u", 10), 0),
    ],
)
def test_what_an_allotment_covers(terms: Allotment, event: UsageEvent, units: int) -> None:
    taken: dict[str, Taken] = {}
    draw(event, RATES.lines(event), [terms], taken)
    assert taken.get(terms.id, Taken()).used == units


@pytest.mark.parametrize(
    ("terms", "used_units", "at_ms", "refund"),
    [
        (PACK, 0, 0, 777),
        (PACK, 500, 0, 389),
        (PACK, 1000, 0, 0),
        (VOUCHER, 10, 0, 0),
        (replace(PACK, unit="device_seconds"), 0, 500, 388),
        (replace(PACK, unit="device_seconds"), 900, 100, 78),
        (replace(PACK, unit="device_seconds"), 0, 5000, 0),
    ],
)
def test_what_is_given_back_for_what_is_unused(
    terms: Allotment, used_units: int, at_ms: int, refund: int
) -> None:
    assert refund_microcredits(terms, Taken(used_units), at_ms) == refund
    ended = balances([end_transaction(terms, used_units, refund, "cancelled")])
    left = terms.price_microcredits - terms.earned(used_units)
    assert ended.get("prepaid:" + terms.id, 0) == left
    assert ended.get("receivable:acme", 0) == -refund
