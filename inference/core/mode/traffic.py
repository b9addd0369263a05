"""What came lately: the requests themselves, and their profile with decay."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

HALF_LIFE_SECONDS = 120.0
"""After which a request counts half as much in the profile."""
WINDOW_SECONDS = 600.0
"""Before which nothing is known any more."""
MOST_KEPT = 4000
LONGEST_TOKENS = 10**9
_FRESH_PART = 0.9


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One request that has ended. ``cached_tokens``: of its prompt, found in the cache of the engine that
    read it."""

    started_seconds: float
    ended_seconds: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class Profile:
    """Means over what came lately. ``requests``: how many it is of."""

    requests_per_second: float
    prompt_tokens: int
    output_tokens: int
    cached_part: float
    requests: int

    @property
    def words(self) -> str:
        """For people."""
        cached = f", {100 * self.cached_part:.0f} % of them cached" if self.cached_part >= 0.005 else ""
        return (
            f"{self.requests_per_second:.3g} requests/s of {self.prompt_tokens:,} prompt tokens{cached} and "
            f"{self.output_tokens:,} output tokens"
        )

    def moved_from(self, other: Profile) -> float:
        """By what factor it differs, 1.0 = not at all: the largest of rate, tokens to read and to write."""
        mine, theirs = _weights(self), _weights(other)
        return max(max(a, b) / max(min(a, b), 1e-9) for a, b in zip(mine, theirs, strict=True))


def _weights(profile: Profile) -> tuple[float, float, float]:
    read = max(1.0, profile.prompt_tokens * (1.0 - profile.cached_part))
    return max(profile.requests_per_second, 1e-6), read, float(max(1, profile.output_tokens))


class TrafficLog:
    """The latest requests of one Endpoint; a bounded number, whatever comes.

    Requests are told when they have ended, so of those that have begun lately the long ones are missing: what
    began within the usual length of a request is left out until later.
    """

    def __init__(self, window_seconds: float = WINDOW_SECONDS, most: int = MOST_KEPT) -> None:
        self._window_seconds = window_seconds
        self._kept: deque[ServedRequest] = deque(maxlen=most)

    def add(self, request: ServedRequest) -> None:
        """What makes no sense (no time, no tokens, an end before the beginning) is not taken."""
        times = (request.started_seconds, request.ended_seconds)
        tokens = (request.prompt_tokens, request.output_tokens)
        if not all(math.isfinite(at) for at in times) or times[1] < times[0]:
            return
        if any(not 1 <= count <= LONGEST_TOKENS for count in tokens):
            return
        if not 0 <= request.cached_tokens <= request.prompt_tokens:
            return
        self._kept.append(request)

    def recent(self, now_seconds: float) -> list[ServedRequest]:
        """In the order in which they began: all that began after the window opened and before the usual
        length of a request ago. What is older than the window is forgotten."""
        kept = [one for one in self._kept if one.started_seconds > now_seconds - self._window_seconds]
        if len(kept) < len(self._kept):
            self._kept = deque(kept, self._kept.maxlen)
        until = now_seconds - _usual_seconds(kept)
        return sorted(
            (one for one in kept if one.started_seconds <= until), key=lambda one: one.started_seconds
        )

    def profile(self, now_seconds: float) -> Profile | None:
        """None before anything has come."""
        recent = self.recent(now_seconds)
        if not recent:
            return None
        until = now_seconds - _usual_seconds(recent)
        weights = [0.5 ** (max(0.0, until - one.started_seconds) / HALF_LIFE_SECONDS) for one in recent]
        total = sum(weights)
        prompt = _mean(weights, [one.prompt_tokens for one in recent])
        cached = _mean(weights, [one.cached_tokens for one in recent])
        output = _mean(weights, [one.output_tokens for one in recent])
        seen_seconds = max(1.0, until - recent[0].started_seconds)
        decay = math.log(2) / HALF_LIFE_SECONDS
        rate = total * decay / (1.0 - math.exp(-decay * seen_seconds))
        return Profile(rate, max(1, round(prompt)), max(1, round(output)), cached / prompt, len(recent))


def _usual_seconds(requests: Sequence[ServedRequest]) -> float:
    if not requests:
        return 0.0
    lengths = sorted(one.ended_seconds - one.started_seconds for one in requests)
    return lengths[int(_FRESH_PART * len(lengths))]


def _mean(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
