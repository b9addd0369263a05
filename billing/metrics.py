"""Prometheus counters of the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from prometheus_client import Counter

from billing.core.rating import RatedLine

EVENTS = Counter(
    "computility_usage_events",
    "Usage events given to the ledger; result is posted, duplicate or refused",
    ["result"],
)
QUANTITY = Counter(
    "computility_usage_posted",
    "Tokens and device-seconds posted; prompt_tokens without those that came from a cache, covered_ those "
    "that orders had paid for",
    ["meter"],
)
MICROCREDITS = Counter(
    "computility_usage_microcredits", "Micro-credits posted, and covered by orders", ["meter"]
)
UNPRICED = Counter("computility_usage_unpriced_lines", "Lines posted for which no price was found", ["meter"])


def count_posted(posted: Iterable[Sequence[RatedLine]], *, duplicates: int, refused: int) -> None:
    """Count what one call of ``Ledger.post`` did; ``posted`` are the lines of each event."""
    events, sums = 0, defaultdict[str, list[int]](lambda: [0, 0, 0])
    for lines in posted:
        events += 1
        for line in lines:
            sum_ = sums[line.meter]
            sum_[0] += abs(line.quantity)
            sum_[1] += abs(line.microcredits)
            sum_[2] += line.price is None
    EVENTS.labels("posted").inc(events)
    EVENTS.labels("duplicate").inc(duplicates)
    EVENTS.labels("refused").inc(refused)
    for meter, (quantity, microcredits, unpriced) in sums.items():
        QUANTITY.labels(meter).inc(quantity)
        MICROCREDITS.labels(meter).inc(microcredits)
        if unpriced:
            UNPRICED.labels(meter).inc(unpriced)
