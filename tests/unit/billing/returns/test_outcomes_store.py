"""Outcomes on SQLite, as a unit: what the contract asks of each database."""

from tests.contract.test_ledger import ledger, prices
from tests.contract.test_outcomes import (
    clock,
    outcomes,
    test_a_report_checked_by_hand,
    test_a_withdrawn_outcome_counts_no_more,
    test_an_outcome_is_recorded_once_and_never_changed,
    test_times_and_counts_have_bounds,
    test_unknown_work_is_looked_for_so_often_a_minute,
    test_unknown_work_is_refused_and_says_what_to_do,
    test_work_of_many_outcomes_is_shared_out_within_bounds,
)
from tests.unit.billing.test_ledger_store import database, migrated

__all__ = [
    "clock",
    "database",
    "ledger",
    "migrated",
    "outcomes",
    "prices",
    "test_a_report_checked_by_hand",
    "test_a_withdrawn_outcome_counts_no_more",
    "test_an_outcome_is_recorded_once_and_never_changed",
    "test_times_and_counts_have_bounds",
    "test_unknown_work_is_looked_for_so_often_a_minute",
    "test_unknown_work_is_refused_and_says_what_to_do",
    "test_work_of_many_outcomes_is_shared_out_within_bounds",
]
