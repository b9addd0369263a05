"""What came lately: the requests themselves, and their profile with decay."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

HALF_LIFE_SECONDS = 120.0
"""After which a request counts half as much in the profile."""
WINDOW_SECONDS = 600.0
"""Before which nothing is known any more."""
MOST_KEPT = 32_000
"""Requests: two minutes at 250 a second."""
LONGEST_TOKENS = 10**9
MOST_READINGS = 256
"""Of how many requests were on their way."""
STALE_SECONDS = 20.0
"""After which such a reading tells nothing about now."""
PART_SECONDS = 1.0
MODELS_SECONDS, MOST_MODELS, FEWEST_MODELS = 30.0, 2000, 8
"""Of those that ended last, which say what those are like that have not ended."""
GOLDEN = 0.6180339887
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

    Requests are told when they have ended, so of those that have begun lately the long ones are missing, the
    more the fuller engines are. Where it is told how many are on their way, these are added as far as can be
    known (``unended``); else what began within the usual length of a request is left out until later.
    """

    def __init__(self, window_seconds: float = WINDOW_SECONDS, most: int = MOST_KEPT) -> None:
        self._window_seconds, self._most = window_seconds, most
        self._kept: deque[ServedRequest] = deque(maxlen=most)
        self._readings: deque[tuple[float, int]] = deque(maxlen=MOST_READINGS)

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

    def on_their_way(self, now_seconds: float, requests: int) -> None:
        """So many have come and have not ended; of more than are kept no more is known. What makes no sense,
        or was told before, is not taken; where the clock goes back, what was told is forgotten."""
        if not math.isfinite(now_seconds) or requests < 0:
            return
        if self._readings and now_seconds < self._readings[-1][0]:
            self._readings.clear()
        if not self._readings or now_seconds > self._readings[-1][0]:
            self._readings.append((now_seconds, min(requests, self._most)))

    def recent(self, now_seconds: float) -> list[ServedRequest]:
        """In the order in which they began: all that began after the window opened and up to now; where it is
        not told how many are on their way, up to the usual length of a request ago. What is older than the
        window is forgotten."""
        return self._recent(now_seconds)[0]

    def _recent(self, now_seconds: float) -> tuple[list[ServedRequest], float]:
        """And up to when it is known what began."""
        opened = now_seconds - self._window_seconds
        kept = [one for one in self._kept if one.started_seconds > opened]
        is_full = len(self._kept) == self._kept.maxlen
        since = max(opened, self._kept[0].ended_seconds) if is_full else opened
        if len(kept) < len(self._kept):
            self._kept = deque(kept, self._kept.maxlen)
        kept.sort(key=lambda one: one.started_seconds)
        readings = [one for one in self._readings if since <= one[0] <= now_seconds]
        if not kept or not readings or now_seconds - readings[-1][0] > STALE_SECONDS:
            until = now_seconds - _usual_seconds(kept)
            known = [one for one in kept if one.started_seconds <= until]
            return known, now_seconds - _usual_seconds(known)
        first, until = kept[0].started_seconds, readings[-1][0]
        if not is_full and first <= self._readings[0][0]:
            readings.insert(0, (math.nextafter(first, -math.inf), 0))
        known = [one for one in kept if one.started_seconds <= until]
        known += unended(kept, readings, self._most)
        return sorted(known, key=lambda one: one.started_seconds), until

    def profile(self, now_seconds: float) -> Profile | None:
        """None before anything has come."""
        recent, until = self._recent(now_seconds)
        if not recent:
            return None
        weights = [0.5 ** (max(0.0, until - one.started_seconds) / HALF_LIFE_SECONDS) for one in recent]
        total = sum(weights)
        prompt = _mean(weights, [one.prompt_tokens for one in recent])
        cached = _mean(weights, [one.cached_tokens for one in recent])
        output = _mean(weights, [one.output_tokens for one in recent])
        seen_seconds = max(1.0, until - recent[0].started_seconds)
        decay = math.log(2) / HALF_LIFE_SECONDS
        rate = total * decay / (1.0 - math.exp(-decay * seen_seconds))
        return Profile(rate, max(1, round(prompt)), max(1, round(output)), cached / prompt, len(recent))


def unended(
    ended: Sequence[ServedRequest], readings: Sequence[tuple[float, int]], most: int
) -> list[ServedRequest]:
    """Requests that have come and have not ended, as far as can be told; the latest, about ``most``.

    Between two readings as many have come as have ended, and as many more as are on their way. Those of them
    that are missing among the ended take longer than they are old: they are taken to be like those that ended
    last and did, and where there are few of these, like the longest. ``ended``: by their start; ``readings``:
    when how many were on their way, by time.
    """
    ends = sorted(one.ended_seconds for one in ended)
    starts = [one.started_seconds for one in ended]
    models, found, now = _Models(ended), list[ServedRequest](), readings[-1][0]
    for (start, before), (end, after) in reversed(list(pairwise(readings))):
        come = bisect_right(ends, end) - bisect_right(ends, start) + after - before
        count = max(1, math.ceil((end - start) / PART_SECONDS))
        edges = [start + (end - start) * number / count for number in range(count + 1)]
        places = [bisect_right(starts, edge) for edge in edges]
        missing = _shared(come, [there - here for here, there in pairwise(places)])
        for (here, there), number in zip(pairwise(edges), missing, strict=True):
            for each in range(number):
                found.append(models.like(here + (there - here) * (each + 0.5) / number, now))
        if len(found) >= most:
            break
    return found


class _Models:
    """Those that ended last, by what they took, the longest first."""

    def __init__(self, ended: Sequence[ServedRequest]) -> None:
        last = max(one.ended_seconds for one in ended) - MODELS_SECONDS
        latest = sorted(ended, key=lambda one: one.ended_seconds)[-MOST_MODELS:]
        latest = [one for one in latest if one.ended_seconds >= last]
        self._models = sorted(latest, key=lambda one: one.started_seconds - one.ended_seconds)
        self._lasted = [one.started_seconds - one.ended_seconds for one in self._models]
        self._drawn = 0.0

    def like(self, at: float, now: float) -> ServedRequest:
        """A request that came then and has not ended now; evenly one after the other of those that took
        longer than it is old."""
        longer = max(FEWEST_MODELS, bisect_left(self._lasted, at - now))
        self._drawn = (self._drawn + GOLDEN) % 1.0
        model = self._models[int(self._drawn * min(longer, len(self._models)))]
        lasts = max(now - at, model.ended_seconds - model.started_seconds)
        return replace(model, started_seconds=at, ended_seconds=at + lasts)


def _shared(come: int, ended: Sequence[int]) -> list[int]:
    """How many are missing of each part of a time in which so many have come, evenly, and so many of each
    part have ended."""
    missing = come - sum(ended)
    lacks = list(accumulate((max(0.0, come / len(ended) - number) for number in ended), initial=0.0))
    if missing <= 0 or not lacks[-1]:
        return [0] * len(ended)
    return [
        round(missing * there / lacks[-1]) - round(missing * here / lacks[-1])
        for here, there in pairwise(lacks)
    ]


def _usual_seconds(requests: Sequence[ServedRequest]) -> float:
    if not requests:
        return 0.0
    lengths = sorted(one.ended_seconds - one.started_seconds for one in requests)
    return lengths[int(_FRESH_PART * len(lengths))]


def _mean(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
