"""What Prometheus is told of batches: no label grows with what tenants make."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable

from prometheus_client import Counter, Gauge

from common.resources import Batch
from common.store.batch_lines import LineOutcome

OPEN_STATES = ("validating", "in_progress", "finalizing", "cancelling")
LINES = Counter("computility_batch_lines", "Lines of batches that have an outcome", ("outcome",))
AGAIN = Counter("computility_batch_line_retries", "Answers to lines after which they are asked for again")
UNDER_WAY = Gauge("computility_batch_lines_under_way", "Lines that are asked for now")
OPEN = Gauge("computility_batches_open", "Batches that have not ended", ("state",))


def count_lines(outcomes: Iterable[LineOutcome]) -> None:
    """So many lines have come to their end."""
    for outcome in outcomes:
        LINES.labels("completed" if outcome.is_good else "failed").inc()


def show(batches: Iterable[Batch]) -> None:
    """How many batches are in each state."""
    states = Counts[str](batch.status.state for batch in batches)
    for state in OPEN_STATES:
        OPEN.labels(state).set(states[state])
