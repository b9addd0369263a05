"""Double entry: every transaction's entries add up to zero, or it cannot be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from billing.core.allotments import COVERED, Allotment, Draw
from billing.core.events import UsageEvent
from billing.core.rating import RatedLine

TransactionType = Literal["usage", "reversal", "order", "end"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a posting: debits are positive, credits negative. ``line`` is what earned a credit."""

    account: str
    microcredits: int
    line: RatedLine | None = None


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one usage event or order posts, or takes back. Raises ``ValueError`` when the entries do not
    balance."""

    event_id: str
    type: TransactionType
    entries: tuple[Entry, ...]
    reason: str = ""

    def __post_init__(self) -> None:
        total = sum([entry.microcredits for entry in self.entries])
        if total:
            raise ValueError(f"the transaction for {self.event_id} is off balance by {total} micro-credits")

    @property
    def id(self) -> str:
        return f"{self.type}/{self.event_id}"

    @property
    def lines(self) -> tuple[RatedLine, ...]:
        """What its entries were made of."""
        return tuple(entry.line for entry in self.entries if entry.line is not None)


def usage_transaction(
    event: UsageEvent, lines: Sequence[RatedLine], draws: Sequence[Draw] = ()
) -> Transaction:
    """Debit what the project owes and what allotments cover (``draws``, whose lines stand among ``lines``),
    credit the revenue of each meter; and of what was paid beforehand, earn the part that was used."""
    owed = sum([line.microcredits for line in lines])
    debit = Entry(f"receivable:{event.tenant}/{event.project}", owed)
    rated = [Entry(_account_of(line.meter), -line.microcredits, line) for line in lines]
    earned = [entry for one in draws for entry in _earned(one.allotment, one.earned)] if draws else ()
    return Transaction(event.id, "usage", (debit, *rated, *earned))


def reversal_of(transaction: Transaction, reason: str, draws: Sequence[Draw] = ()) -> Transaction:
    """The transaction that takes ``transaction`` back: the same accounts, the opposite signs. ``draws`` are
    what allotments are given back; what they had earned is no more earned as of now."""
    kept = (entry for entry in transaction.entries if not entry.account.startswith(_OF_PREPAID))
    entries = (replace(entry, microcredits=-entry.microcredits) for entry in kept)
    back = (entry for one in draws for entry in _earned(one.allotment, -one.earned))
    return Transaction(transaction.event_id, "reversal", (*entries, *back), reason)


def order_transaction(terms: Allotment, reason: str) -> Transaction:
    """Debit what the tenant owes for an order, credit what it may use for it."""
    price = terms.price_microcredits
    entries = (Entry(f"receivable:{terms.tenant}", price), Entry(_prepaid(terms), -price))
    return Transaction(order_event_id(terms), "order", entries if price else (), reason)


def end_transaction(terms: Allotment, used: int, refund_microcredits: int, reason: str) -> Transaction:
    """What is left of an order's price when it ends: a part is given back, the rest is earned unused."""
    left = terms.price_microcredits - terms.earned(used)
    given = (_prepaid(terms), left), (f"receivable:{terms.tenant}", -refund_microcredits)
    entries = (*given, ("revenue:unused", refund_microcredits - left))
    made = tuple(Entry(account, amount) for account, amount in entries if amount)
    return Transaction(order_event_id(terms), "end", made, reason)


def order_event_id(terms: Allotment) -> str:
    """What the journal calls an order, beside the ids of usage events."""
    return f"order/{terms.id}"


_OF_PREPAID = ("prepaid:", "revenue:orders")


def _earned(terms: Allotment, microcredits: int) -> tuple[Entry, ...]:
    if not microcredits:
        return ()
    return Entry(_prepaid(terms), microcredits), Entry("revenue:orders", -microcredits)


def _prepaid(terms: Allotment) -> str:
    return f"prepaid:{terms.id}"


@cache
def _account_of(meter: str) -> str:
    if meter.startswith(COVERED):
        return f"covered:{meter.removeprefix(COVERED)}"
    return f"revenue:{meter}"


@dataclass(frozen=True)
class TrialBalance:
    """What each account holds; ``total_microcredits`` of a sound ledger is 0."""

    accounts: Mapping[str, int]

    @property
    def total_microcredits(self) -> int:
        return sum(self.accounts.values())
