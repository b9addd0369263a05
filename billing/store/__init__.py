"""The ledger in SQL: usage events, and the journal that they post."""

from billing.store.ledger import Ledger, PostResult, Reversal
from billing.store.usage import UsageFilter, UsageRow

__all__ = ["Ledger", "PostResult", "Reversal", "UsageFilter", "UsageRow"]
