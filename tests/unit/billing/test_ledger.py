"""Every transaction balances, and its reversal undoes it."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.core.events import METERS, UsageEvent
from billing.core.ledger import Entry, Transaction, TrialBalance, reversal_of, usage_transaction
from billing.core.rating import RatedLine

EVENT = UsageEvent("use-1", "inference", "acme", "web", 0, 1, {})
LINES = st.lists(
    st.builds(RatedLine, st.sampled_from(METERS), st.integers(1, 10**12), st.integers(0, 10**18), st.none()),
    unique_by=lambda line: line.meter,
)


def balances(*transactions: Transaction) -> Counter[str]:
    total: Counter[str] = Counter()
    for transaction in transactions:
        for entry in transaction.entries:
            total[entry.account] += entry.microcredits
    return total


@given(LINES)
def test_what_the_project_owes_is_what_the_meters_earned(lines: list[RatedLine]) -> None:
    posted = balances(usage_transaction(EVENT, lines))
    assert sum(posted.values()) == 0
    assert posted["receivable:acme/web"] == sum(line.microcredits for line in lines)
    for line in lines:
        assert posted[f"revenue:{line.meter}"] == -line.microcredits


@given(LINES)
def test_a_reversal_undoes_all_of_it(lines: list[RatedLine]) -> None:
    posted = usage_transaction(EVENT, lines)
    reversal = reversal_of(posted, "posted to the wrong project")
    assert set(balances(posted, reversal).values()) <= {0}
    assert (reversal.event_id, reversal.type, reversal.reason) == (
        "use-1",
        "reversal",
        "posted to the wrong project",
    )
    assert reversal.id != posted.id


def test_what_does_not_balance_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="off balance by 1"):
        Transaction("use-1", "usage", (Entry("receivable:acme/web", 3), Entry("revenue:prompt_tokens", -2)))


def test_a_trial_balance_adds_up_its_accounts() -> None:
    assert TrialBalance({"receivable:a/b": 5, "revenue:prompt_tokens": -5}).total_microcredits == 0
    assert TrialBalance({"receivable:a/b": 5}).total_microcredits == 5
