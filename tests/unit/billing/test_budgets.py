"""Budgets: their periods by the calendar of a time zone, and which of them a use counts against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.budgets import BudgetIndex, BudgetPeriod, Scope, Terms, Use, counted_ms, use_of
from billing.core.events import UsageEvent
from common.clock import parse_rfc3339, rfc3339

ZONES = ("UTC", "Asia/Shanghai", "America/Sao_Paulo", "Europe/Berlin", "Pacific/Apia", "Asia/Kathmandu")
ACME = Scope("acme")


def terms(name: str = "b", scope: Scope = ACME, **more: Any) -> Terms:
    content: dict[str, Any] = {
        "period": "month",
        "unit": "microcredits",
        "limit": 100,
        "hard": True,
        "from_ms": 0,
        **more,
    }
    return Terms(id=f"uid-{name}", name=name, scope=scope, **content)


@pytest.mark.parametrize(
    ("period", "zone", "at", "name", "resets"),
    [
        ("total", "UTC", "2026-11-30T12:00:00Z", "total", None),
        ("day", "UTC", "2026-11-30T23:59:59.999Z", "2026-11-30", "2026-12-01T00:00:00Z"),
        ("day", "Asia/Shanghai", "2026-11-30T16:00:00Z", "2026-12-01", "2026-12-02T00:00:00+08:00"),
        ("week", "UTC", "2027-01-03T12:00:00Z", "2026-W53", "2027-01-04T00:00:00Z"),
        ("week", "UTC", "2027-01-04T00:00:00Z", "2027-W01", "2027-01-11T00:00:00Z"),
        ("month", "UTC", "2026-12-31T12:00:00Z", "2026-12", "2027-01-01T00:00:00Z"),
        ("month", "Europe/Berlin", "2026-10-31T22:59:59Z", "2026-10", "2026-11-01T00:00:00+01:00"),
        ("day", "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-25", "2026-10-26T00:00:00+01:00"),
    ],
)
def test_periods_go_by_the_calendar_of_the_time_zone(
    period: BudgetPeriod, zone: str, at: str, name: str, resets: str | None
) -> None:
    one = terms(period=period, zone=ZoneInfo(zone))
    at_ms = parse_rfc3339(at)
    assert one.period_at(at_ms) == name
    found = one.resets_ms(at_ms)
    assert found == (parse_rfc3339(resets) if resets else None)


@given(
    st.sampled_from(ZONES),
    st.sampled_from(("day", "week", "month")),
    st.integers(parse_rfc3339("1990-01-01T00:00:00Z"), parse_rfc3339("2100-01-01T00:00:00Z")),
)
def test_every_moment_is_in_one_period_that_ends_where_the_next_begins(
    zone: str, period: BudgetPeriod, at_ms: int
) -> None:
    one = terms(period=period, zone=ZoneInfo(zone))
    ends_ms = one.resets_ms(at_ms)
    assert ends_ms is not None
    assert ends_ms > at_ms
    assert one.period_at(ends_ms - 1) == one.period_at(at_ms), rfc3339(ends_ms)
    assert one.period_at(ends_ms) > one.period_at(at_ms)


def test_a_budget_that_ends_resets_no_more() -> None:
    one = terms(until_ms=parse_rfc3339("2026-12-15T00:00:00Z"))
    assert one.resets_ms(parse_rfc3339("2026-11-30T12:00:00Z")) == parse_rfc3339("2026-12-01T00:00:00Z")
    assert one.resets_ms(parse_rfc3339("2026-12-03T12:00:00Z")) == one.until_ms


def found(scope: Scope, tags: Mapping[str, str] = {}, user: str = "", key: str = "ci") -> bool:
    return any(BudgetIndex([terms(scope=scope)]).of("acme", "bots", key, user, tags))


def test_all_that_a_scope_names_has_to_fit() -> None:
    assert found(Scope("acme"))
    assert not found(Scope("other"))
    assert found(Scope("acme", "bots", "ci"))
    assert not found(Scope("acme", "lab"))
    assert not found(Scope("acme", "bots", "cd"))
    assert found(Scope("acme", user="u-1"), user="u-1")
    assert not found(Scope("acme", user="u-1"))
    assert not found(Scope("acme", user="u-1"), user="u-2")
    team = Scope("acme", tags=(("team", "search"),))
    assert found(team, {"team": "search", "task": "T-1"})
    assert not found(team, {"team": "sales"})
    assert not found(team)
    both = Scope("acme", tags=(("task", "T-1"), ("team", "search")))
    assert found(both, {"team": "search", "task": "T-1"})
    assert not found(both, {"task": "T-1"})


NAMES = st.sampled_from(("", "a", "b"))
TAGS = st.dictionaries(st.sampled_from(("x", "y", "z")), st.sampled_from(("1", "2")), max_size=3)


@given(st.lists(st.tuples(st.sampled_from(("a", "b")), NAMES, NAMES, NAMES, TAGS), max_size=8), st.data())
def test_the_index_finds_what_a_look_at_each_budget_finds(
    scopes: list[tuple[str, str, str, str, dict[str, str]]], data: st.DataObject
) -> None:
    budgets = [
        terms(str(number), Scope(*scope[:4], tuple(sorted(scope[4].items()))))
        for number, scope in enumerate(scopes)
    ]
    tenant = data.draw(st.sampled_from(("a", "b", "c")))
    project, key, user, tags = data.draw(NAMES), data.draw(NAMES), data.draw(NAMES), data.draw(TAGS)
    looked = {
        one.id
        for one in budgets
        if one.scope.tenant == tenant
        and one.scope.project in ("", project)
        and one.scope.key in ("", key)
        and one.scope.user in ("", user)
        and one.scope.has_tags(tags)
    }
    by_index = [one.id for one in BudgetIndex(budgets).of(tenant, project, key, user, tags)]
    assert sorted(by_index) == sorted(looked)


def event(kind: Any = "inference", **more: Any) -> UsageEvent:
    content: dict[str, Any] = {"quantities": {"prompt_tokens": 3}, "started_ms": 10, "ended_ms": 90, **more}
    return UsageEvent(id="use-1", kind=kind, tenant="acme", project="bots", **content)


def test_inference_counts_when_it_was_admitted_and_all_else_when_it_ended() -> None:
    assert counted_ms(event(admitted_ms=20)) == 20
    assert counted_ms(event("training", admitted_ms=20)) == 90
    assert counted_ms(event("device")) == 90


def test_what_begins_before_a_budget_or_after_its_end_does_not_count() -> None:
    index = BudgetIndex([terms(from_ms=20, until_ms=80)])
    assert [bool(list(index.of_event(event(admitted_ms=at)))) for at in (19, 20, 79, 80)] == [
        False,
        True,
        True,
        False,
    ]


def test_tokens_are_counted_once_and_seconds_apart() -> None:
    counts = {"prompt_tokens": 50, "cached_tokens": 40, "completion_tokens": 7, "trained_tokens": 3}
    use = use_of(event(quantities={**counts, "device_seconds": 9}), 1234)
    assert use == Use(1234, 60, 9)
    assert [use.of(unit) for unit in ("microcredits", "tokens", "device_seconds")] == [1234, 60, 9]
