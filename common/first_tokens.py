"""How long first tokens took lately, from the growing histograms that engines tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

WINDOW_MS = 300_000
"""First tokens are judged over so long, and only from ``LEAST_TOKENS`` of them on."""
LEAST_TOKENS = 20

Buckets = Iterable[tuple[float, int]]
"""A histogram as Prometheus has it: (upper bound, observations up to it since the start)."""


def percentile(buckets: Mapping[float, int], part: float) -> float:
    """The value that ``part`` of the observations are not above, straight within a bucket; 0.0 for none.

    ``buckets``: upper bound -> observations in that bucket. Beyond the last finite bound that bound counts.
    """
    rank, seen, lower = part * sum(buckets.values()), 0, 0.0
    for bound, count in sorted(buckets.items()):
        if count and seen + count >= rank:
            value = lower + (bound - lower) * (rank - seen) / count
            return lower if bound == float("inf") else min(value, bound)
        seen, lower = seen + count, bound
    return 0.0


@dataclass
class FirstTokens:
    """Times to the first token over the last ``window_ms``."""

    window_ms: int = WINDOW_MS
    least_tokens: int = LEAST_TOKENS
    _known: dict[str, dict[float, int]] = field(default_factory=dict)
    _lately: list[tuple[int, Counter[float]]] = field(default_factory=list)

    def note(self, histograms: Mapping[str, Buckets], now_ms: int) -> int:
        """What each engine tells now; returns how many first tokens came since the last look. The first that
        is heard of an engine is only where counting begins."""
        new: Counter[float] = Counter()
        for engine, buckets in histograms.items():
            told, known = dict(buckets), self._known.get(engine)
            below = 0
            for bound in sorted(told if known is not None else ()):
                grown = told[bound] - (known or {}).get(bound, 0)
                new[bound] += max(0, grown - below)
                below = grown
            self._known[engine] = told
        self._known = {engine: self._known[engine] for engine in histograms}
        self._lately = [(at, seen) for at, seen in self._lately if at > now_ms - self.window_ms]
        self._lately.append((now_ms, new))
        return new.total()

    def forget(self) -> None:
        """Judge by what comes from now on: there are more engines now, or fewer."""
        self._lately = []

    def p95_seconds(self) -> float | None:
        """The 95th percentile; None where too few requests came to tell."""
        total: Counter[float] = Counter()
        for _, seen in self._lately:
            total.update(seen)
        return percentile(total, 0.95) if total.total() >= self.least_tokens else None
