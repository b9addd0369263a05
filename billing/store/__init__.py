"""The ledger in SQL: usage events, and the journal that they post."""

from billing.store.charges import ChargeRow
from billing.store.columns import UsageFilter
from billing.store.ledger import Ledger, PostResult, Reversal
from billing.store.usage import UsageRow

__all__ = ["ChargeRow", "Ledger", "PostResult", "Reversal", "UsageFilter", "UsageRow"]
