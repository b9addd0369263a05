"""Findings as metrics and in words."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from billing.core.reconciliation import Finding
from common.clock import rfc3339

ENGINES = Gauge("computility_reconciliation_engines", "Engines whose counters are held against events")
WINDOWS = Counter(
    "computility_reconciliation_windows",
    "Windows of engines that were judged; result is equal, within, open, unbilled or drift",
    ("result",),
)
DRIFT = Counter(
    "computility_reconciliation_drift_tokens",
    "Tokens by which engines and events differ and no rule says why; side is billed or counted",
    ("side", "meter"),
)
UNBILLED = Counter(
    "computility_reconciliation_unbilled_tokens",
    "Tokens that engines made for requests that were cut off, or that nobody got an answer to",
    ("meter",),
)
UNANSWERED = Counter(
    "computility_reconciliation_unanswered", "Sequences that engines began and that no event tells of"
)
LEDGER_APART = Gauge(
    "computility_reconciliation_ledger_apart",
    "By how much sums of events, totals, charges and accounts differ",
)
_METERS = ("prompt", "completion")
for _meter in _METERS:
    for _side in ("billed", "counted"):
        DRIFT.labels(_side, _meter)
    UNBILLED.labels(_meter)


def count(finding: Finding) -> None:
    """Into the metrics."""
    WINDOWS.labels(finding.result).inc()
    if finding.result == "open":
        return
    UNANSWERED.inc(finding.unanswered)
    for meter in _METERS:
        if finding.result == "drift":
            DRIFT.labels("billed", meter).inc(getattr(finding.missing, meter))
            DRIFT.labels("counted", meter).inc(getattr(finding.surplus, meter))
        else:
            UNBILLED.labels(meter).inc(getattr(finding.surplus, meter))


def in_words(engine: str, finding: Finding) -> str:
    """One line that names engine and window."""
    window = f"{engine} from {rfc3339(finding.from_ms)} to {rfc3339(finding.to_ms)}"
    missing, surplus, counted = finding.missing, finding.surplus, finding.counted
    told = f"it counted {counted.prompt} tokens of prompts and {counted.completion} of answers"
    if missing.tokens:
        return f"{window}: {told}; billed are {missing.prompt} and {missing.completion} more"
    if not surplus.tokens:
        return f"{window}: {told}; the events say so too"
    more = f"{surplus.prompt} and {surplus.completion} of them are not billed"
    if finding.result == "drift":
        return f"{window}: {told}; {more}, and no rule says why"
    why = f"{finding.bounds.cut_off} requests were cut off, {finding.unanswered} sequences without an event"
    return f"{window}: {told}; {more} ({why})"
