"""Prometheus counters of the ledger."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter

from billing.core.events import UsageEvent
from billing.core.rating import RatedLine

EVENTS = Counter(
    "computility_usage_events",
    "Usage events given to the ledger; result is posted, duplicate or refused",
    ["result"],
)
QUANTITY = Counter(
    "computility_usage_posted",
    "Tokens and device-seconds posted; prompt_tokens without those that came from a cache",
    ["meter"],
)
MICROCREDITS = Counter("computility_usage_microcredits", "Micro-credits posted", ["meter"])
UNPRICED = Counter("computility_usage_unpriced_lines", "Lines posted for which no price was found", ["meter"])


def count_posted(
    posted: Sequence[tuple[UsageEvent, Sequence[RatedLine]]], *, duplicates: int, refused: int
) -> None:
    """Count what one call of ``Ledger.post`` did."""
    EVENTS.labels("posted").inc(len(posted))
    EVENTS.labels("duplicate").inc(duplicates)
    EVENTS.labels("refused").inc(refused)
    for line in (line for _, lines in posted for line in lines):
        QUANTITY.labels(line.meter).inc(line.quantity)
        MICROCREDITS.labels(line.meter).inc(line.microcredits)
        if line.unpriced:
            UNPRICED.labels(line.meter).inc()
