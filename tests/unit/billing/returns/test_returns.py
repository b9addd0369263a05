"""Ratios, shares and claims: whole numbers that add up."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.outcomes import Work
from billing.core.returns import NO_OUTCOME, Brought, Claims, Return, allocated, divided

pytestmark = pytest.mark.unit
T1, T2, TEAM = Work("task", "T-1"), Work("task", "T-2"), Work("team", "search")


def test_a_return_checked_by_hand() -> None:
    """3 credits brought 4 answers worth 10.5 credits, three of them judged at 0.9, one not."""
    one = Return(3_000_000, Brought(4, 10_500_000, 3, 2700))
    assert one.to_dict() == {
        "cost_microcredits": 3_000_000,
        "outcomes": 4,
        "value_microcredits": 10_500_000,
        "net_microcredits": 7_500_000,
        "roi_millis": 2500,
        "cost_per_outcome_microcredits": 750_000,
        "quality_millis": 900,
    }
    nothing = Return(0, Brought()).to_dict()
    assert [name for name, value in nothing.items() if value is None] == [
        "roi_millis",
        "cost_per_outcome_microcredits",
        "quality_millis",
    ]
    assert Return(7, Brought(0, 0)).roi_millis == -1000


@given(st.integers(-(10**18), 10**18), st.integers(1, 10**18))
def test_a_quotient_is_rounded_half_up(amount: int, by: int) -> None:
    found = divided(amount, by)
    assert found is not None
    assert Fraction(-1, 2) < found - Fraction(amount, by) <= Fraction(1, 2)


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**15), min_size=1, max_size=20).filter(any))
def test_shares_add_up_and_none_is_off_by_one(amount: int, weights: list[int]) -> None:
    parts = allocated(amount, weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(amount * weight, sum(weights))) < 1
        assert part == 0 or weight > 0


def test_what_a_task_claims_no_other_tag_does() -> None:
    claims = Claims(
        {
            ("acme", T1): {"answer": Brought(1, 3_000), "sale": Brought(1, 1_000)},
            ("acme", T2): {"answer": Brought(3), "sale": Brought(1)},
            ("acme", TEAM): {"report": Brought(2, -5)},
        }
    )
    assert claims.tags == ["task", "team"]
    for tenant, values, expected in (
        ("acme", ("T-1", "search"), [("answer", 75), ("sale", 25)]),
        ("acme", ("T-2", ""), [("answer", 75), ("sale", 25)]),
        ("acme", ("", "search"), [("report", 100)]),
        ("acme", ("T-3", "search"), [("report", 100)]),
        ("acme", ("T-3", "ads"), [(NO_OUTCOME, 100)]),
        ("acme", ("", ""), [(NO_OUTCOME, 100)]),
        ("umbrella", ("T-1", "search"), [(NO_OUTCOME, 100)]),
    ):
        assert list(claims.of(tenant, values, 100)) == expected
    assert list(Claims({}).of("acme", (), 7)) == [(NO_OUTCOME, 7)]
