"""When a session has had no input for so long that it is over."""

from __future__ import annotations


class IdleClock:
    """Counts from its start and from each input. Once over, it stays over. Times are monotonic seconds."""

    def __init__(self, limit_seconds: float, now_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._last_seconds = now_seconds
        self._over = False

    def touch(self, now_seconds: float) -> None:
        """There was input."""
        self.is_over(now_seconds)
        self._last_seconds = max(self._last_seconds, now_seconds)

    def is_over(self, now_seconds: float) -> bool:
        """Whether the limit has passed without input, now or before."""
        self._over = self._over or now_seconds - self._last_seconds >= self._limit_seconds
        return self._over
