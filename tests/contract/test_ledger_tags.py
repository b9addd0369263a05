"""Reports by what requests say of themselves: end user, tags, Endpoint, adapter, hour; and their bounds."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.events import METERS, UsageEvent
from billing.reports import usage_report
from billing.store import Ledger, UsageFilter, series
from billing.store.series import OTHER
from common.clock import VirtualClock
from common.db import Database
from common.errors import InvalidInput
from common.store.memory import MemoryStore
from tests.contract.test_ledger import DAY_MS, NOON, chat, ledger, prices

__all__ = ["ledger", "prices"]

HOUR_MS = 3600 * 1000
TEAMS = ("", "search", 'it\'s "quoted", 中文', "a.b/c$")
NAMES = ("team", "a key. with \"odd\" 'signs'", "$[0]")


def tagged_events(count: int = 200, seed: int = 3) -> list[UsageEvent]:
    chance = random.Random(seed)
    events = []
    for n in range(count):
        tags = {name: chance.choice(TEAMS) for name in NAMES if chance.random() < 0.6}
        events.append(
            chat(
                f"use-{n:04}",
                tenant=chance.choice(["acme", "umbrella"]),
                user=chance.choice(["", "ann", "bob"]),
                tags=tags,
                endpoint=chance.choice(["", "web/chat"]),
                base_model=chance.choice(["tiny", "base"]),
                labels={"task": chance.choice(["chat", "embeddings"])},
                ended_ms=NOON + chance.randrange(0, 3 * DAY_MS),
            )
        )
    return events


def value_of(event: UsageEvent, group: str) -> str:
    if group.startswith("tag:"):
        return event.tags.get(group[4:], "")
    return event.labels["task"] if group == "task" else str(getattr(event, group))


@pytest.mark.parametrize(
    "groups",
    [
        ["user"],
        ["tag:team"],
        [f"tag:{NAMES[1]}", "user", "tenant"],
        [f"tag:{NAMES[2]}", "tag:team"],
        ["endpoint", "adapter", "task"],
        ["tag:nobody-s"],
    ],
    ids=lambda groups: groups[0],
)
async def test_any_group_over_any_span_adds_up_as_the_events_do(ledger: Ledger, groups: list[str]) -> None:
    events, chance = tagged_events(), random.Random(1)
    await ledger.post(events)
    gone = {event.id for event in chance.sample(events, 30)}
    for id_ in sorted(gone):
        await ledger.reverse(id_, "a test")
    for begin, end in ((None, None), (NOON, NOON + DAY_MS + HOUR_MS), (NOON + 5, NOON + 2 * DAY_MS)):
        expected: dict[tuple[str, ...], Counter[str]] = {}
        for event in events:
            if event.id in gone or not (begin or 0) <= event.ended_ms < (end or 2**60):
                continue
            sums = expected.setdefault(tuple(value_of(event, group) for group in groups), Counter())
            sums.update(events=1, **{meter: event.quantity(meter) for meter in METERS})
        report = await usage_report(ledger, groups, UsageFilter(from_ms=begin, to_ms=end))
        found = {tuple(row.group.values()): row for row in report.rows}
        assert set(found) == set(expected)
        for key, sums in expected.items():
            assert [getattr(found[key], name) for name in ("events", *METERS)] == [
                sums[name] for name in ("events", *METERS)
            ]


async def test_a_filter_holds_to_users_tags_and_lists_of_values(ledger: Ledger) -> None:
    events = tagged_events()
    await ledger.post(events)
    among = {"tag:team": ("search",), "user": ("ann", "bob"), "endpoint": ("web/chat",)}
    wanted = [e for e in events if all(value_of(e, group) in values for group, values in among.items())]
    for from_ms in (None, NOON + 1):
        where = UsageFilter(tenant="acme", from_ms=from_ms, among=among)
        expected = [e for e in wanted if e.tenant == "acme" and e.ended_ms >= (from_ms or 0)]
        assert 0 < len(expected) == (await usage_report(ledger, where=where)).total.events


async def test_hours_and_minutes_are_those_of_utc(ledger: Ledger) -> None:
    await ledger.post(
        [chat("a", ended_ms=NOON - 1), chat("b", ended_ms=NOON), chat("c", ended_ms=NOON + 59_999)]
    )
    where = UsageFilter(from_ms=NOON - HOUR_MS, to_ms=NOON + HOUR_MS)
    hours = await usage_report(ledger, ["hour"], where)
    assert [(row.group["hour"], row.events) for row in hours.rows] == [
        ("2026-03-01T11:00Z", 1),
        ("2026-03-01T12:00Z", 2),
    ]
    minutes = await usage_report(ledger, ["minute", "model"], where)
    assert [row.group["minute"] for row in minutes.rows] == ["2026-03-01T11:59Z", "2026-03-01T12:00Z"]


@pytest.mark.parametrize(
    ("groups", "where", "param"),
    [
        (["tag:"], UsageFilter(), "group_by"),
        (["hour"], UsageFilter(), "from"),
        (["minute"], UsageFilter(from_ms=NOON, to_ms=NOON + 2 * DAY_MS), "from"),
        ([], UsageFilter(among={"colour": ("red",)}), "group_by"),
        ([f"tag:{n}" for n in range(9)], UsageFilter(), "group_by"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    ledger: Ledger, groups: list[str], where: UsageFilter, param: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await usage_report(ledger, groups, where)
    assert refused.value.param == param


async def test_what_tags_make_of_a_day_is_bounded_and_no_amount_is_lost(
    database: Database, prices: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "MAX_TAGGED_SERIES", 20)
    events = [chat(f"use-{n:03}", user=f"user-{n:03}", tags={"run": str(n)}) for n in range(50)]
    plain = [chat("plain"), chat("other-tenant", tenant="umbrella", user="zoe")]
    first = Ledger(database, prices, VirtualClock())
    await first.post(events[:30] + plain)
    await Ledger(database, prices, VirtualClock()).post(events[20:])
    report = await usage_report(first, ["tenant", "user", "tag:run"])
    found = {tuple(row.group.values()): row.events for row in report.rows}
    assert found.pop(("acme", OTHER, OTHER)) == 30
    assert found == {
        ("acme", "", ""): 1,
        ("umbrella", "zoe", ""): 1,
        **{("acme", f"user-{n:03}", str(n)): 1 for n in range(20)},
    }
    await first.reverse("use-049", "what is in no series of its own is taken back as well")
    assert (await usage_report(first, where=UsageFilter(among={"user": (OTHER,)}))).total.events == 29
    assert await rows(database, "tagged_series") == 21
    later = chat("use-later", user="user-777", ended_ms=NOON + DAY_MS)
    await first.post([later])
    assert (await usage_report(first, where=UsageFilter(among={"user": ("user-777",)}))).total.events == 1


async def rows(database: Database, table: str) -> int:
    async with database.read() as connection:
        return int((await connection.exec_driver_sql(f"SELECT COUNT(*) FROM {table}")).scalar_one())


async def test_what_was_posted_before_has_no_tags_and_is_taken_back_where_it_was_counted(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a release left it that knew neither tags nor Endpoints, beside what this one posts."""
    old = chat("old", labels={"task": "chat"}, base_model="base")

    async def of_before(
        self: series.Places, connection: AsyncConnection, events: Sequence[UsageEvent]
    ) -> dict[str, series.Place]:
        return {event.id: series.place_of_before(event) for event in events}

    with monkeypatch.context() as before:
        before.setattr(series.Places, "of", of_before)
        await ledger.post([old])
    async with database.write() as connection:
        drop = "DROP TRIGGER usage_events_series"
        await connection.exec_driver_sql(drop if database.is_sqlite else f"{drop} ON usage_events")
        await connection.execute(sa.text("UPDATE usage_events SET series = ''"))
    new = chat("new", labels={"task": "chat"}, base_model="base", endpoint="web/chat", user="ann")
    await ledger.post([new])
    for from_ms in (None, NOON):
        report = await usage_report(ledger, ["user", "adapter", "task"], UsageFilter(from_ms=from_ms))
        assert [tuple(row.group.values()) for row in report.rows] == [("", "", ""), ("ann", "tiny", "chat")]
    await ledger.reverse("old", "a test")
    assert [row.group["user"] for row in (await usage_report(ledger, ["user"])).rows] == ["ann"]
