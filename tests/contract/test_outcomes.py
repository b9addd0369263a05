"""Outcomes on both databases: recorded once, for work that is known, and added up beside its cost."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from billing import returns
from billing.core.outcomes import Outcome, Work
from billing.returns import returns_report
from billing.store import Ledger, UsageFilter, known_work, searches, series
from billing.store import outcomes as store
from billing.store.known_work import Owner
from billing.store.outcomes import Outcomes
from common.clock import VirtualClock
from common.db import Database
from common.errors import Conflict, InvalidInput, NotFound, TooManyRequests
from tests.contract.test_ledger import DAY_MS, NOON, chat, ledger, prices

__all__ = ["ledger", "prices"]

OWNER = Owner("uid-acme")
COST, EVENTS = 56, 200
"""Of every ``chat`` of these tests, and how many a random ledger has."""


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOON + DAY_MS)


@pytest.fixture
def outcomes(database: Database, clock: VirtualClock) -> Outcomes:
    return Outcomes(database, clock)


def said(task: str = "T-1", name: str = "answer", **changes: Any) -> Outcome:
    made = Outcome(id=f"{task}:{name}", tenant="acme", work=Work("task", task), name=name)
    return replace(made, **changes)


def tagged(id_: str, tags: Mapping[str, str], **changes: Any) -> Any:
    return chat(id_, tags=tags, **changes)


async def test_an_outcome_is_recorded_once_and_never_changed(ledger: Ledger, outcomes: Outcomes) -> None:
    await ledger.post([tagged("a", {"task": "T-1", "team": "search"})])
    first = await outcomes.record(said(value_microcredits=200), OWNER)
    assert (first.repeated, first.project, first.tags) == (False, "web", {"task": "T-1", "team": "search"})
    again = await outcomes.record(said(value_microcredits=200), OWNER)
    assert again == replace(first, repeated=True)
    with pytest.raises(Conflict, match="says something else") as refused:
        await outcomes.record(said(value_microcredits=201), OWNER)
    assert refused.value.param == "id"
    assert await outcomes.latest(UsageFilter(tenant="acme")) == [first]
    other = await outcomes.record(said(), Owner("uid-of-a-namesake"))
    assert not other.repeated


async def test_many_at_once_record_it_once(database: Database, ledger: Ledger, clock: VirtualClock) -> None:
    await ledger.post([tagged("a", {"task": "T-1"})])
    makers = [Outcomes(database, clock) for _ in range(4)]
    made = await asyncio.gather(*(maker.record(said(), OWNER) for maker in makers))
    assert sorted(one.repeated for one in made) == [False, True, True, True]


@pytest.mark.parametrize(
    ("tag", "value"),
    [("task", "T-2"), ("task", "T-"), ("task", "%"), ("task", "search"), ("team", "T-1"), ("sk", "T-1")],
)
async def test_unknown_work_is_refused_and_says_what_to_do(
    ledger: Ledger, outcomes: Outcomes, tag: str, value: str
) -> None:
    odd = {'x"task': "T-2", "z": '","task":"T-2', "y": '{"task":"T-2"}', "team": "search", "task": "T-1"}
    await ledger.post([tagged("a", odd), tagged("b", {"task": "T-2"}, tenant="umbrella")])
    with pytest.raises(InvalidInput, match="metadata") as refused:
        await outcomes.record(said(work=Work(tag, value)), OWNER)
    assert refused.value.param == ("task" if tag == "task" else "tag")
    assert await outcomes.latest(UsageFilter()) == []


async def test_unknown_work_is_looked_for_so_often_a_minute(
    ledger: Ledger, outcomes: Outcomes, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searches, "MOST_A_MINUTE", 3)
    await ledger.post([tagged(f"use-{n}", {"task": f"T-{n}"}) for n in range(5)])
    for number in range(4):
        await outcomes.record(said(f"T-{number}"), OWNER)
    tries = [outcomes.record(said(f"none-{n}"), OWNER) for n in range(5)]
    refused = await asyncio.gather(*tries, return_exceptions=True)
    assert Counter(map(type, refused)) == {InvalidInput: 3, TooManyRequests: 2}
    assert next(one for one in refused if isinstance(one, TooManyRequests)).retry_after_seconds <= 60
    with pytest.raises(InvalidInput):  # another tenant's
        await outcomes.record(said("none"), Owner("uid-of-another"))
    clock.advance(60)
    await outcomes.record(said("T-4"), OWNER)


@pytest.mark.parametrize("value", ["T-1", 'a "quoted" one', "back\\", "a,b}", "ä–世", "{}"])
async def test_work_is_found_whatever_it_is_called(ledger: Ledger, outcomes: Outcomes, value: str) -> None:
    await ledger.post([tagged("a", {"task": value, "zone": "x"}), tagged("b", {"a": "y", "task": value})])
    recorded = await outcomes.record(said(work=Work("task", value)), OWNER)
    assert recorded.tags == {"task": value}


async def test_work_of_a_project_is_not_that_of_another(ledger: Ledger, outcomes: Outcomes) -> None:
    await ledger.post(
        [tagged("a", {"task": "T-1", "team": "search"}), tagged("b", {"task": "T-1"}, project="lab")]
    )
    with pytest.raises(InvalidInput, match="project shop"):
        await outcomes.record(said(project="shop"), OWNER)
    both = await outcomes.record(said(), OWNER)
    assert (both.project, both.tags) == ("", {"task": "T-1"})
    one = await outcomes.record(said(project="web", id="o"), OWNER)
    assert (one.project, one.tags) == ("web", {"task": "T-1", "team": "search"})


async def test_what_a_namesake_of_before_did_is_unknown(ledger: Ledger, outcomes: Outcomes) -> None:
    await ledger.post([tagged("theirs", {"task": "T-1"}), tagged("ours", {"task": "T-2"}, ended_ms=NOON + 9)])
    owner = Owner("uid-acme", NOON + 1, ("lab", "web"))
    with pytest.raises(InvalidInput, match="no usage"):
        await outcomes.record(said("T-1"), owner)
    with pytest.raises(InvalidInput, match="no usage"):
        await outcomes.record(said("T-2", project="lab"), owner)
    await outcomes.record(said("T-2"), owner)
    await outcomes.record(said("T-2", project="web", id="o"), owner)


async def test_work_is_taken_for_known_where_tags_are_not_told_apart(
    ledger: Ledger, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "MAX_TAGGED_SERIES", 1)
    await ledger.post([tagged("a", {"task": "T-1"}), tagged("b", {"task": "T-2"})])
    recorded = await outcomes.record(said("T-2", value_microcredits=100), OWNER)
    assert (recorded.project, recorded.tags) == ("", {"task": "T-2"})
    report = await returns_report(ledger, outcomes, ["tag:task"], UsageFilter(tenant="acme"))
    found = {key: (row.cost_microcredits, row.brought.count) for key, row in report.rows.items()}
    assert found == {("(other)",): (COST, 0), ("T-1",): (COST, 0), ("T-2",): (0, 1)}


async def test_times_and_counts_have_bounds(
    ledger: Ledger, outcomes: Outcomes, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.post([tagged("a", {"task": "T-1"})])
    now_ms = clock.now_ms()
    for at_ms in (now_ms + store.CLOCKS_APART_MS + 1, now_ms - known_work.LOOK_BACK_MS - 1, NOON - 1):
        with pytest.raises(InvalidInput) as refused:
            await outcomes.record(said(at_ms=at_ms), Owner("uid-acme", NOON if at_ms == NOON - 1 else 0))
        assert refused.value.param == "at"
    monkeypatch.setattr(store, "MOST_A_DAY", 2)
    for number in range(2):
        await outcomes.record(said(id=f"o-{number}"), OWNER)
    with pytest.raises(TooManyRequests) as full:
        await outcomes.record(said(id="o-2"), OWNER)
    assert full.value.retry_after_seconds == 12 * 3600
    assert (await outcomes.record(said(id="o-1"), OWNER)).repeated
    await outcomes.record(said(), Owner("uid-umbrella"))
    clock.advance(12 * 3600)
    await outcomes.record(said(id="o-2"), OWNER)


async def test_a_withdrawn_outcome_counts_no_more(ledger: Ledger, outcomes: Outcomes) -> None:
    await ledger.post([tagged("a", {"task": "T-1"})])
    await outcomes.record(said(value_microcredits=5), OWNER)
    for owner, project in ((Owner("uid-umbrella"), None), (OWNER, "lab")):
        with pytest.raises(NotFound):
            await outcomes.withdraw(owner, "T-1:answer", project)
    withdrawn = await outcomes.withdraw(OWNER, "T-1:answer", "web")
    assert (withdrawn.repeated, withdrawn.withdrawn_ms) == (False, NOON + DAY_MS)
    assert await outcomes.withdraw(OWNER, "T-1:answer") == replace(withdrawn, repeated=True)
    assert await outcomes.record(said(value_microcredits=5), OWNER) == replace(withdrawn, repeated=True)
    report = await returns_report(ledger, outcomes, [], UsageFilter(tenant="acme"))
    assert (report.total.brought.count, report.total.cost_microcredits) == (0, COST)
    assert [one.withdrawn_ms for one in await outcomes.latest(UsageFilter())] == [NOON + DAY_MS]


async def test_a_report_checked_by_hand(ledger: Ledger, outcomes: Outcomes) -> None:
    """T-1 of search took three requests and brought an answer and a sale; T-2 of ads took one and brought
    nothing; one request was for no task."""
    await ledger.post(
        [
            *(tagged(f"t1-{n}", {"task": "T-1", "team": "search"}) for n in range(3)),
            tagged("t2", {"task": "T-2", "team": "ads"}),
            chat("none"),
        ]
    )
    await outcomes.record(said(value_microcredits=300, quality_millis=900, count=2), OWNER)
    await outcomes.record(said(name="sale", value_microcredits=100, at_ms=NOON), OWNER)
    where = UsageFilter(tenant="acme")

    async def rows(*group_by: str) -> dict[tuple[str, ...], tuple[int, int, int]]:
        report = await returns_report(ledger, outcomes, group_by, where)
        assert report.total.cost_microcredits == 5 * COST
        assert report.total.brought.value_microcredits == 400
        return {
            key: (row.cost_microcredits, row.brought.count, row.brought.value_microcredits)
            for key, row in report.rows.items()
        }

    assert await rows("tag:team") == {
        ("",): (COST, 0, 0),
        ("ads",): (COST, 0, 0),
        ("search",): (3 * COST, 3, 400),
    }
    assert await rows("outcome") == {
        ("",): (2 * COST, 0, 0),
        ("answer",): (126, 2, 300),
        ("sale",): (42, 1, 100),
    }
    assert await rows("month", "tag:task") == {
        ("2026-03", ""): (COST, 0, 0),
        ("2026-03", "T-1"): (3 * COST, 3, 400),
        ("2026-03", "T-2"): (COST, 0, 0),
    }
    assert await rows("day", "outcome") == {
        ("2026-03-01", ""): (2 * COST, 0, 0),
        ("2026-03-01", "answer"): (126, 0, 0),
        ("2026-03-01", "sale"): (42, 1, 100),
        ("2026-03-02", "answer"): (0, 2, 300),
    }
    assert await rows() == {}
    search = UsageFilter(tenant="acme", among={"tag:team": ("search",)})
    one = (await returns_report(ledger, outcomes, [], search)).total.to_dict()
    assert (one["roi_millis"], one["cost_per_outcome_microcredits"], one["quality_millis"]) == (1381, 56, 900)


async def test_a_span_may_begin_and_end_within_a_day(ledger: Ledger, outcomes: Outcomes) -> None:
    """What is left of a day is read from events, in its month as whole days are."""
    ends = (NOON - 1, NOON, NOON + 40 * DAY_MS - 1, NOON + 40 * DAY_MS)
    await ledger.post([tagged(f"use-{end}", {"task": "T-1"}, started_ms=0, ended_ms=end) for end in ends])
    for at_ms in (NOON - 1, NOON, NOON + DAY_MS):
        await outcomes.record(said(id=f"o-{at_ms}", at_ms=at_ms, value_microcredits=9), OWNER)
    where = UsageFilter(tenant="acme", from_ms=NOON, to_ms=NOON + 40 * DAY_MS)
    for group_by, keys in (
        (["month"], [("2026-03",), ("2026-04",)]),
        (["month", "outcome"], [("2026-03", "answer"), ("2026-04", "answer")]),
    ):
        rows = (await returns_report(ledger, outcomes, group_by, where)).rows
        assert [(key, row.cost_microcredits, row.brought.count) for key, row in rows.items()] == [
            (keys[0], COST, 2),
            (keys[1], COST, 0),
        ]


@pytest.mark.parametrize("seed", range(3))
async def test_every_grouping_has_the_same_sums(ledger: Ledger, outcomes: Outcomes, seed: int) -> None:
    chance = random.Random(seed)
    tasks, teams = [f"T-{n}" for n in range(6)], ["search", "ads", ""]
    events = []
    for number in range(EVENTS):
        tags = {"task": chance.choice(tasks), "team": chance.choice(teams)}
        kept = {name: value for name, value in tags.items() if value and chance.random() < 0.8}
        at = NOON + chance.randrange(DAY_MS // 2)
        tenant = chance.choice(["acme", "umbrella"])
        events.append(chat(f"use-{number}", tags=kept, ended_ms=at, tenant=tenant))
    await ledger.post(events)
    for number in range(25):
        work = Work(*chance.choice([("task", chance.choice(tasks)), ("team", "ads")]))
        value = chance.choice([0, 10**15, -(10**15), chance.randrange(10**6)])
        tenant = chance.choice(["acme", "umbrella"])
        one = said(name=chance.choice("abc"), id=f"o-{number}", work=work, value_microcredits=value)
        await outcomes.record(replace(one, count=chance.randrange(1, 9), tenant=tenant), Owner(tenant))
    where = UsageFilter()
    whole = (await returns_report(ledger, outcomes, [], where)).total
    assert whole.cost_microcredits == EVENTS * COST
    for group_by in (
        ["outcome"],
        ["tenant", "outcome"],
        ["tag:team"],
        ["tag:task", "outcome", "month"],
        ["project", "day"],
    ):
        report = await returns_report(ledger, outcomes, group_by, where)
        assert report.total == whole
        assert list(report.rows) == sorted(report.rows)


async def test_work_of_many_outcomes_is_shared_out_within_bounds(
    ledger: Ledger, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(returns, "MAX_PARTS", 6)
    await ledger.post([tagged(f"use-{day}", {"task": "T-1"}, ended_ms=NOON + day * DAY_MS) for day in (0, 1)])
    for number in range(4):
        if number == 3:
            assert len((await returns_report(ledger, outcomes, ["outcome", "day"], UsageFilter())).rows) == 6
        await outcomes.record(said(name=f"n{number}", id=f"o-{number}"), OWNER)
    with pytest.raises(InvalidInput, match="more than 6 parts"):
        await returns_report(ledger, outcomes, ["outcome", "day"], UsageFilter())


async def test_a_wrong_question_is_refused_by_name(ledger: Ledger, outcomes: Outcomes) -> None:
    wrong = (["task"], ["hour"], ["tag:"], ["day", "day"], [f"tag:{n}" for n in range(9)])
    for group_by in wrong:
        with pytest.raises(InvalidInput, match="group_by"):
            await returns_report(ledger, outcomes, group_by, UsageFilter())
    with pytest.raises(InvalidInput, match="after from"):
        await returns_report(ledger, outcomes, [], UsageFilter(from_ms=2, to_ms=2))
