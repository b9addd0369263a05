"""Whether a canary is worse than the stable side: failed requests and times to the first token, of late."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

WINDOW_SECONDS = 300.0
"""What is older counts no more, where what is younger is enough to judge by."""
SLOT_SECONDS = 10.0
MAX_SLOTS = 64
YOUNG_SLOTS = math.ceil(WINDOW_SECONDS / SLOT_SECONDS) + 1
"""Those of the window stay as they are; older ones are put together where there are too many."""
MAX_SOURCES = 256
"""Gateways that are told apart; of more, who told nothing for the longest time is forgotten."""
STEPS_PER_OCTAVE = 4
"""Times to the first token are counted in steps of 19 %."""
LAST_STEP = 22 * STEPS_PER_OCTAVE


@dataclass(frozen=True)
class Seen:
    """Requests of one side that were answered or failed. ``first_tokens``: streams by step of their time to
    the first token."""

    requests: int = 0
    failed: int = 0
    first_tokens: Mapping[int, int] = field(default_factory=dict)

    def plus(self, other: Seen) -> Seen:
        """Both together."""
        tokens = Counter(self.first_tokens)
        tokens.update(other.first_tokens)
        return Seen(self.requests + other.requests, self.failed + other.failed, tokens)

    def less(self, earlier: Seen) -> Seen:
        """What has come since; all of it where the one who counts has begun anew."""
        new = Seen(
            self.requests - earlier.requests,
            self.failed - earlier.failed,
            {step: n - earlier.first_tokens.get(step, 0) for step, n in self.first_tokens.items()},
        )
        begun_anew = min(new.requests, new.failed, *new.first_tokens.values()) < 0
        return self if begun_anew else new

    @property
    def streams(self) -> int:
        return sum(self.first_tokens.values())

    @property
    def median_ms(self) -> float:
        """The time to the first token that half of the streams did not exceed; 0 for none."""
        left = self.streams / 2
        for step, count in sorted(self.first_tokens.items()):
            if count >= left > 0:
                return float(2 ** ((step - 1 + left / count) / STEPS_PER_OCTAVE))
            left -= count
        return 0.0


def step_of(ttft_ms: float) -> int:
    """The step that a time to the first token counts in."""
    if not ttft_ms > 1:
        return 0
    return min(LAST_STEP, math.ceil(math.log2(ttft_ms) * STEPS_PER_OCTAVE))


@dataclass(frozen=True)
class Limits:
    """How much worse a canary may be, and from how many requests on that is looked at."""

    max_error_percent: float
    max_ttft_ratio: float
    min_requests: int


@dataclass(frozen=True)
class Verdict:
    """``reason`` is a word, ``message`` says it with figures."""

    worse: bool
    reason: str
    message: str


def error_percent(seen: Seen, least: int = 1) -> float:
    """Of requests that failed; fewer than ``least`` requests count as so many."""
    return 100 * seen.failed / max(seen.requests, least)


def judge(canary: Seen, stable: Seen, limits: Limits) -> Verdict:
    """Errors are those beyond the stable side's, of whose requests as many as are missing count as good:
    what breaks on both sides is not the canary's fault, and a side that hardly serves excuses nothing. Times
    are compared where both sides have enough streams."""
    least = limits.min_requests
    if canary.requests < least:
        return Verdict(False, "Collecting", f"{canary.requests} of {least} requests until it is judged")
    failed, usual = error_percent(canary), error_percent(stable, least)
    figures = (
        f"{canary.failed} of {canary.requests} requests of the canary failed ({failed:.1f} %), and "
        f"{stable.failed} of {stable.requests} of the stable side ({usual:.1f} %)"
    )
    if failed - usual > limits.max_error_percent:
        return Verdict(True, "TooManyErrors", f"{figures}: over {limits.max_error_percent:g} % more")
    if min(canary.streams, stable.streams) < least:
        return Verdict(False, "Healthy", figures)
    took, usually = canary.median_ms, stable.median_ms
    figures += f"; median time to the first token {took:.0f} ms, and {usually:.0f} ms"
    if took > usually * limits.max_ttft_ratio:
        return Verdict(True, "TooSlow", f"{figures}: over {limits.max_ttft_ratio:g} times")
    return Verdict(False, "Healthy", figures)


@dataclass
class _Slot:
    since_seconds: float
    canary: Seen
    stable: Seen


class Trial:
    """What all gateways have counted of one trial lately. Each tells what it has counted since it began, so
    that one who begins to listen late, or anew, misses nothing."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Seen, Seen]] = {}
        self._slots: list[_Slot] = []

    def note(self, source: str, canary: Seen, stable: Seen, now_seconds: float) -> None:
        """What a gateway has counted by now."""
        before = self._known.pop(source, (Seen(), Seen()))
        while len(self._known) >= MAX_SOURCES:
            self._known.pop(next(iter(self._known)))
        self._known[source] = canary, stable
        new = canary.less(before[0]), stable.less(before[1])
        last = self._slots[-1] if self._slots else None
        if last is None or now_seconds - last.since_seconds >= SLOT_SECONDS:
            self._slots.append(_Slot(now_seconds, *new))
        else:
            last.canary, last.stable = last.canary.plus(new[0]), last.stable.plus(new[1])
        if len(self._slots) > MAX_SLOTS:
            self._put_two_together()

    def _put_two_together(self) -> None:
        """Of the old neighbours those that hold fewest of the canary's requests: so each slot stays a small
        part of what it is judged by."""
        old = self._slots[:-YOUNG_SLOTS]
        both = [one.canary.requests + next_.canary.requests for one, next_ in pairwise(old)]
        at = both.index(min(both))
        gone, kept = self._slots.pop(at), self._slots[at]
        kept.canary, kept.stable = kept.canary.plus(gone.canary), kept.stable.plus(gone.stable)

    def lately(self, limits: Limits, now_seconds: float) -> tuple[Seen, Seen]:
        """The canary's and the stable side's, of the window; of longer, where that is too little. What is
        older than that is forgotten: it will not be needed again."""
        canary, stable = Seen(), Seen()
        for at in reversed(range(len(self._slots))):
            slot = self._slots[at]
            is_old = now_seconds - slot.since_seconds > WINDOW_SECONDS
            if is_old and canary.requests >= limits.min_requests:
                del self._slots[: at + 1]
                break
            canary, stable = canary.plus(slot.canary), stable.plus(slot.stable)
        return canary, stable

    def verdict(self, limits: Limits, now_seconds: float) -> Verdict:
        """What follows from what was counted lately."""
        return judge(*self.lately(limits, now_seconds), limits)
