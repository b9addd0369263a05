"""What drawn events cost by drawn price books, and what is wrong with events, is what was approved: a few
answers are kept as text, of all a digest."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from billing.core.events import MAX_QUANTITY, UsageEvent
from billing.core.ledger import reversal_of, usage_transaction
from billing.core.rating import BookItem, PriceBook, rate
from common.errors import InvalidInput
from common.vocabulary import MAX_TIME_MS
from tests.fixtures import approved

METERS = ("prompt_tokens", "cached_tokens", "completion_tokens", "trained_tokens", "device_seconds")
READ = 4
"""So many answers are kept as text."""


def _event(rng: random.Random) -> UsageEvent:
    prompt = rng.randrange(1, 5000)
    quantities = {"prompt_tokens": prompt, "cached_tokens": rng.randrange(prompt + 1), "completion_tokens": 7}
    kind = rng.choice(("inference", "training", "device"))
    amounts = {
        "inference": quantities,
        "training": {"trained_tokens": prompt},
        "device": {"device_seconds": prompt},
    }
    return UsageEvent(
        "use-1",
        kind,  # type: ignore[arg-type]
        rng.choice(("acme", "other")),
        "web",
        0,
        rng.choice((0, 999, 1000, 1999, 2000)),
        amounts[kind],
        model=rng.choice(("tiny", "chat")),
        base_model=rng.choice(("", "tiny")),
        model_identity=rng.choice(("", "platform/tiny", "lab/tiny")),
        model_shared=rng.random() < 0.5,
        device_class=rng.choice(("nvidia/H100", "amd/MI300X", "")),
    )


def _book(rng: random.Random, name: str) -> PriceBook:
    items = [
        BookItem(
            rng.choice(METERS),
            rng.choice((0, 1, 499_999, 500_000, 2_000_000)),
            rng.choice(("*", "tiny", "chat", "platform/tiny", "lab/tiny")),
            rng.choice(("*", "NVIDIA/h100", "amd/MI300X")),
        )
        for _ in range(rng.randrange(12))
    ]
    until_ms = rng.choice((None, 1000, 2000))
    return PriceBook(name, 3, rng.choice((0, 1000)), tuple(items), until_ms, rng.choice((None, "acme")))


def _bill(rng: random.Random) -> Any:
    """The lines and the transaction of an event, and what takes it back."""
    event, books = _event(rng), [_book(rng, name) for name in ("a", "b", "c")]
    transaction = usage_transaction(event, rate(event, books))
    return transaction, reversal_of(transaction, "a mistake")


def _wrong(rng: random.Random) -> Any:
    """An event with one field that may be odd."""
    content = _event(rng).to_dict()
    odd: tuple[Any, ...] = (
        None,
        0,
        -1,
        1.5,
        True,
        "",
        "x",
        "a\nb",
        "\ud800",
        "x" * 5000,
        {},
        {"x": 1},
        MAX_TIME_MS,
        MAX_TIME_MS + 1,
    )
    amounts = ({"prompt_tokens": each} for each in (0, 1, -1, True, "1", MAX_QUANTITY, MAX_QUANTITY + 1))
    field = rng.choice(sorted(content))
    content[field] = rng.choice((*odd, *amounts))
    if rng.random() < 0.1:
        del content[field]
    if rng.random() < 0.05:
        content["unheard"] = 1
    event = UsageEvent.from_dict(content)
    same = replace(event, quantities={**event.quantities, "trained_tokens": 0})
    return event.digest(), same.digest() == event.digest()


RULES: dict[str, Callable[[random.Random], Any]] = {"bills": _bill, "events": _wrong}


def _said(ask: Callable[[], Any]) -> str:
    try:
        return str(ask())
    except InvalidInput as error:
        return f"{error.code} {error.param}: {error}"


@pytest.mark.parametrize("name", RULES)
def test_bills_are_as_approved(name: str) -> None:
    rule = RULES[name]
    answers = [_said(lambda seed=seed: rule(random.Random(seed))) for seed in range(2000)]  # type: ignore[misc]
    lines = [*answers[:READ], f"all: {approved.digest(chr(10).join(answers))}"]
    approved.check(Path(__file__).with_name("approved_bills.txt"), {name: "\n".join(lines)})
