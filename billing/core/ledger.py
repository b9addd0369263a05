"""Double entry: every transaction's entries add up to zero, or it cannot be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from billing.core.events import UsageEvent
from billing.core.rating import RatedLine


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a posting: debits are positive, credits negative. ``line`` is what earned a credit."""

    account: str
    microcredits: int
    line: RatedLine | None = None


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one usage event posts, or takes back. Raises ``ValueError`` when the entries do not balance."""

    event_id: str
    type: Literal["usage", "reversal"]
    entries: tuple[Entry, ...]
    reason: str = ""

    def __post_init__(self) -> None:
        total = sum([entry.microcredits for entry in self.entries])
        if total:
            raise ValueError(f"the transaction for {self.event_id} is off balance by {total} micro-credits")

    @property
    def id(self) -> str:
        return f"{self.type}/{self.event_id}"


def usage_transaction(event: UsageEvent, lines: Sequence[RatedLine]) -> Transaction:
    """Debit what the project owes, credit the revenue of each meter."""
    owed = sum([line.microcredits for line in lines])
    debit = Entry(f"receivable:{event.tenant}/{event.project}", owed)
    earned = [Entry(f"revenue:{line.meter}", -line.microcredits, line) for line in lines]
    return Transaction(event.id, "usage", (debit, *earned))


def reversal_of(transaction: Transaction, reason: str) -> Transaction:
    """The transaction that takes ``transaction`` back: the same accounts, the opposite signs."""
    entries = tuple(replace(entry, microcredits=-entry.microcredits) for entry in transaction.entries)
    return Transaction(transaction.event_id, "reversal", entries, reason)


@dataclass(frozen=True)
class TrialBalance:
    """What each account holds; ``total_microcredits`` of a sound ledger is 0."""

    accounts: Mapping[str, int]

    @property
    def total_microcredits(self) -> int:
        return sum(self.accounts.values())
