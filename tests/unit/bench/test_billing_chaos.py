"""What a run under kills says of a bill: each kind of wrong bill is found, and a right one is not blamed."""

import json
from dataclasses import replace
from typing import Any

import pytest

from bench.billing_chaos.comparing import Verdict, compare, compare_training
from bench.billing_chaos.ledger import books_of
from bench.billing_chaos.records import Billed, Received, Trained
from bench.billing_chaos.spending import KEY, spent

ANSWERED = Received("r", "plain", most=8, state="answered", prompt=5, cached=2, completion=8)
LEFT = Received("r", "leaves_stream", most=60, prompt=5, completion=7, what="left")
CUT = Received("r", "stream", most=60, completion=7)
NOTHING = Received("r", "plain", most=8)
REFUSED = Received("r", "plain", most=8, state="refused")


def billed(
    prompt: int = 5, cached: int = 2, completion: int = 8, id_: str = "e", request: str = "r"
) -> Billed:
    return Billed(id_, request, "completed", prompt, cached, completion)


@pytest.mark.parametrize(
    ("one", "events"),
    [
        (ANSWERED, [billed()]),
        (LEFT, [billed(completion=7)]),
        (LEFT, [billed(completion=60)]),
        (CUT, [billed(completion=9)]),
        (NOTHING, []),
        (NOTHING, [billed()]),
        (REFUSED, []),
    ],
)
def test_a_right_bill(one: Received, events: list[Billed]) -> None:
    verdict = compare([one], events)
    assert (verdict.events_lost, verdict.events_doubled, verdict.token_drift) == (0, 0, 0)
    assert verdict.faults == []


@pytest.mark.parametrize(
    ("one", "events", "lost", "doubled", "drift"),
    [
        (ANSWERED, [], 1, 0, 13),
        (ANSWERED, [billed(completion=7)], 0, 0, 1),
        (ANSWERED, [billed(prompt=15, cached=2)], 0, 0, 10),
        (ANSWERED, [billed(cached=0)], 0, 0, 2),
        (ANSWERED, [billed(), billed(id_="f")], 0, 1, 0),
        (LEFT, [billed(completion=6)], 0, 0, 1),
        (LEFT, [billed(prompt=4)], 0, 0, 1),
        (LEFT, [billed(completion=61)], 0, 0, 1),
        (CUT, [], 1, 0, 7),
        (ANSWERED, [billed(), billed(id_="f", request="nobody's")], 0, 1, 0),
    ],
)
def test_a_wrong_bill(one: Received, events: list[Billed], lost: int, doubled: int, drift: int) -> None:
    verdict = compare([one], events)
    assert (verdict.events_lost, verdict.events_doubled, verdict.token_drift) == (lost, doubled, drift)
    assert len(verdict.faults) == 1


def test_an_answer_of_which_nothing_came_is_told_by_how_it_ended() -> None:
    assert compare([NOTHING], [billed()]).unanswered == {"completed": 1}


@pytest.mark.parametrize(
    ("jobs", "events", "lost", "doubled", "drift"),
    [
        ([Trained("j", "succeeded", 90)], {"j": [90]}, 0, 0, 0),
        ([Trained("j", "failed", None)], {}, 0, 0, 0),
        ([Trained("j", "succeeded", 90)], {}, 1, 0, 90),
        ([Trained("j", "succeeded", 90)], {"j": [90, 90]}, 0, 1, 90),
        ([Trained("j", "succeeded", 90)], {"j": [80]}, 0, 0, 10),
        ([], {"j": [90]}, 0, 1, 0),
    ],
)
def test_jobs(jobs: list[Trained], events: dict[str, Any], lost: int, doubled: int, drift: int) -> None:
    verdict = Verdict()
    compare_training(jobs, events, verdict)
    assert (verdict.events_lost, verdict.events_doubled, verdict.token_drift) == (lost, doubled, drift)


def rows(**changed: Any) -> dict[str, Any]:
    """A ledger of one event of 3 micro-credits."""
    document = json.dumps({"labels": {"request_id": "r"}, "outcome": "completed", "resource": "engine-0"})
    sums = {"prompt_tokens": 5, "cached_tokens": 2, "completion_tokens": 8, "trained_tokens": 0}
    sums |= {"device_seconds": 0, "microcredits": 3}
    found: dict[str, Any] = {
        "usage_events": [{"id": "e", "kind": "inference", "key": "", "document": document, **sums}],
        "journal": [{"event_id": "e", "type": "usage", "entries": '[["a", 3], ["b", -3]]'}],
        "account_totals": [{"account": "a", "microcredits": 3}, {"account": "b", "microcredits": -3}],
        "usage_totals": [sums],
        "charge_totals": [{"microcredits": 3}],
        "budget_totals": [{"tokens": 7}, {"tokens": 6}],
    }
    return found | changed


def test_a_ledger_that_agrees_with_itself() -> None:
    books = books_of(rows())
    assert books.faults == []
    assert list(books.requests) == [billed()]
    assert books.budget_tokens == 13


@pytest.mark.parametrize(
    "changed",
    [
        {"journal": [{"event_id": "e", "type": "usage", "entries": '[["a", 3], ["b", -2]]'}]},
        {"journal": []},
        {"account_totals": [{"account": "a", "microcredits": 3}]},
        {"usage_totals": []},
        {"charge_totals": [{"microcredits": 4}]},
    ],
)
def test_a_ledger_that_does_not(changed: dict[str, Any]) -> None:
    assert books_of(rows(**changed)).faults


@pytest.mark.parametrize(
    ("tokens", "counted", "leases", "faults"),
    [(5990, 5990, 0, 0), (6000, 6000, 0, 0), (6001, 6001, 1, 0), (6061, 6061, 2, 0), (5990, 6001, 1, 1)],
)
def test_what_a_budget_came_to(tokens: int, counted: int, leases: int, faults: int) -> None:
    events = [replace(billed(prompt=tokens - 8), key=KEY), billed(prompt=9000)]
    came = spent(events, counted, [REFUSED])
    assert (came.billed, came.overshoot_leases, len(came.faults)) == (tokens, leases, faults)
