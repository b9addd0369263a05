"""Which spent budgets stop whose work, and how they say so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.budgets import Scope, Terms, Unit
from billing.core.stops import ExhaustedBudgets, exhausted
from common.clock import parse_rfc3339

NOON_MS = parse_rfc3339("2026-11-30T12:00:00Z")
CAP = Terms("uid-cap", "cap", Scope("acme"), "month", "microcredits", 100, True, 0)


def test_a_budget_stops_work_from_its_limit_on() -> None:
    assert exhausted(CAP, 99, NOON_MS) is None
    found = exhausted(CAP, 100, NOON_MS)
    assert found is not None
    assert (found.period, found.resets_ms) == ("2026-11", parse_rfc3339("2026-12-01T00:00:00Z"))


@pytest.mark.parametrize(
    "terms",
    [
        replace(CAP, hard=False),
        replace(CAP, unit="device_seconds"),
        replace(CAP, from_ms=NOON_MS + 1),
        replace(CAP, until_ms=NOON_MS),
    ],
)
def test_soft_budgets_and_those_that_are_not_in_force_stop_nothing(terms: Terms) -> None:
    assert exhausted(terms, 1_000, NOON_MS) is None


def test_one_that_never_begins_anew_names_no_moment() -> None:
    found = exhausted(replace(CAP, period="total"), 100, NOON_MS)
    assert found is not None
    assert (found.period, found.resets_ms) == ("total", None)


SCOPES = st.builds(
    Scope,
    st.sampled_from(("acme", "other")),
    st.sampled_from(("", "p", "q")),
    st.sampled_from(("", "k", "l")),
    st.sampled_from(("", "ada")),
    st.sampled_from(((), (("team", "x"),))),
)
UNITS: tuple[Unit, ...] = ("microcredits", "tokens")
BUDGETS = st.lists(st.tuples(SCOPES, st.sampled_from(UNITS), st.sampled_from(("day", "total"))), max_size=6)


@given(BUDGETS, st.booleans())
def test_stopped_is_what_a_spent_budget_counts_and_nothing_else(
    chosen: list[tuple[Scope, Unit, str]], trains: bool
) -> None:
    terms = [
        replace(CAP, id=f"uid-{at}", name=f"b{at}", scope=scope, unit=unit, period=period)  # type: ignore[arg-type]
        for at, (scope, unit, period) in enumerate(chosen)
    ]
    found = [one for one in (exhausted(one, 100, NOON_MS) for one in terms) if one is not None]
    counting = [
        one
        for one in found
        if one.terms.scope.tenant == "acme"
        and one.terms.scope.project in ("", "p")
        and one.terms.scope.key in ("", "k")
        and not one.terms.scope.user
        and not one.terms.scope.tags
        and (trains or one.terms.unit == "microcredits")
    ]
    stopping = ExhaustedBudgets(found).stopping("acme", "p", "k", trains)
    assert (stopping is not None) == bool(counting)
    if stopping is not None:
        assert stopping in counting
        assert (stopping.resets_ms is None) == any(one.resets_ms is None for one in counting)


def test_the_tenants_of_what_is_new_or_over_are_told() -> None:
    mine, theirs = (
        exhausted(replace(CAP, id=name, scope=Scope(name)), 100, NOON_MS) for name in ("acme", "other")
    )
    assert mine is not None
    assert theirs is not None
    nothing, one, both = ExhaustedBudgets(), ExhaustedBudgets([mine]), ExhaustedBudgets([mine, theirs])
    assert one.differing(nothing) == nothing.differing(one) == {"acme"}
    assert both.differing(one) == {"other"}
    assert both.differing(ExhaustedBudgets([theirs, mine])) == set()
