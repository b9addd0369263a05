"""Searches that may find nothing, which cost the most: each tenant has so many of these a minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from common.clock import Clock
from common.errors import TooManyRequests

MOST_A_MINUTE = 60
"""Of a tenant, that run or have found nothing."""
_MINUTE_SECONDS = 60.0


class Searches:
    """Counts in memory, by whoever searches; of this minute only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._minute = 0
        self._in_vain: Counter[str] = Counter()

    @contextmanager
    def one(self, owner: str, what: str) -> Iterator[None]:
        """A search for ``what``, which has found something where the block ends well. Raises
        ``TooManyRequests``."""
        now_seconds = self._clock.monotonic_seconds()
        minute = int(now_seconds // _MINUTE_SECONDS)
        if minute != self._minute:
            self._minute, self._in_vain = minute, Counter()
        if self._in_vain[owner] >= MOST_A_MINUTE:
            raise TooManyRequests(
                f"{MOST_A_MINUTE} times in this minute no {what} was found; try again when it is there",
                retry_after_seconds=max(1, int((minute + 1) * _MINUTE_SECONDS - now_seconds)),
            )
        counted = self._in_vain
        counted[owner] += 1
        yield
        counted[owner] -= 1
