"""From which length on a prompt is worth a leg of its own.

Of a prompt of ``n`` tokens that are in no cache three times are measured, and each is a line of ``n``: until
the first token of an answer whose engine reads the prompt itself (``here``), until another engine has read it
(``leg``), and until the first token of an answer whose engine fetches what was read (``fetch``). While an
engine that answers reads, the answers that it writes wait: ``s`` is how many of them there are beside. So

    alone = here.base + (1 + s) * here.slope * n
    apart = leg.base + fetch.base + (leg.slope + fetch.slope) * n

and the threshold is where they are equal: (leg.base + fetch.base - here.base) divided by ((1 + s) *
here.slope - leg.slope - fetch.slope). Where one of them is always less it is the end of the range.

It is never further than twofold from what lengths were measured, nor beyond ``LEAST`` and ``MOST``. It moves
when three looks in a row, 5 s apart, find it a quarter off to the same side, and then at most twofold.

So that there is something to compare, one of 32 prompts within threefold of it, and one of 256 others, goes
the other way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from inference.core.legs.line import Line, Times

LEAST, MOST = 16, 2**17
EXTRAPOLATED = 2.0
LOOK_SECONDS = 5.0
LOOKS = 3
"""In a row, before it moves."""
OFF = 1.25
"""What is nearer is left as it is."""
STEP = 2.0
NEAR = 3.0
TRIED_NEAR, TRIED_FAR = 32, 256
MOST_BESIDE = 256.0
_WEIGHT = 0.05
"""Of the latest number of answers beside, in their mean."""


@dataclass(frozen=True)
class Found:
    """What is known: ``tokens`` is the threshold; the lines are None while they are not known."""

    tokens: int
    here: Line | None
    leg: Line | None
    fetch: Line | None
    beside: float


class LegThreshold:
    """That of one Endpoint. It begins with ``prior``, and stays there while nothing is known."""

    def __init__(self, prior: int) -> None:
        self._tokens = float(min(max(prior, LEAST), MOST))
        self._here, self._leg, self._fetch = Times(), Times(), Times()
        self._beside = 0.0
        self._near = self._far = 0
        self._looked_seconds = -math.inf
        self._off = 0
        """Looks in a row that found it too low, or, less than 0, too high."""

    @property
    def tokens(self) -> int:
        return round(self._tokens)

    def is_apart(self, tokens: int) -> bool:
        """Whether another engine is to read a prompt of this length: as the threshold says, or the other way,
        to see what that takes."""
        apart = tokens >= self.tokens
        if self._tokens / NEAR <= tokens <= self._tokens * NEAR:
            self._near += 1
            return apart != (self._near % TRIED_NEAR == 0)
        self._far += 1
        return apart != (self._far % TRIED_FAR == 0)

    def saw_leg(self, tokens: float, seconds: float, now_seconds: float) -> None:
        """Another engine has read a prompt, of which so many tokens were not in its cache."""
        self._leg.add(tokens, seconds, now_seconds)

    def saw_answer(
        self, tokens: float, seconds: float, beside: float, now_seconds: float, *, fetched: bool
    ) -> None:
        """The first token of an answer came after so long, from an engine that had ``beside`` others to write
        when it began: of a prompt of so many tokens that it fetched, or that were not in its cache."""
        (self._fetch if fetched else self._here).add(tokens, seconds, now_seconds)
        if 0 <= beside < math.inf:
            self._beside += _WEIGHT * (min(beside, MOST_BESIDE) - self._beside)
        self._look(now_seconds)

    def found(self, now_seconds: float) -> Found:
        """What is known now."""
        here, leg, fetch = (times.line(now_seconds) for times in (self._here, self._leg, self._fetch))
        return Found(self.tokens, here, leg, fetch, self._beside)

    def _look(self, now_seconds: float) -> None:
        if now_seconds - self._looked_seconds < LOOK_SECONDS:
            return
        self._looked_seconds = now_seconds
        target = crossover(self.found(now_seconds))
        if target is None or 1 / OFF < target / self._tokens < OFF:
            self._off = 0
            return
        higher = target > self._tokens
        self._off = max(self._off, 0) + 1 if higher else min(self._off, 0) - 1
        if abs(self._off) >= LOOKS:
            self._off = 0
            self._tokens *= min(max(target / self._tokens, 1 / STEP), STEP)


def crossover(found: Found) -> float | None:
    """Where reading apart begins to take less; None while too little is known, or it takes the same. Where it
    gains nothing by the token the longest prompt that was seen decides for all."""
    here, leg, fetch = found.here, found.leg, found.fetch
    if here is None or leg is None or fetch is None:
        return None
    least = max(LEAST, min(here.shortest, leg.shortest, fetch.shortest) / EXTRAPOLATED)
    most = min(MOST, max(here.longest, leg.longest, fetch.longest) * EXTRAPOLATED)
    cost = leg.base_seconds + fetch.base_seconds - here.base_seconds
    gain = (1 + found.beside) * here.slope_seconds - leg.slope_seconds - fetch.slope_seconds
    if gain <= 0:
        longest = max(here.longest, leg.longest, fetch.longest)
        lost = cost - gain * longest
        return None if lost == 0 else most if lost > 0 else least
    return min(max(cost / gain, least), max(least, most))
