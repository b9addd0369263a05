"""A limit per minute as a bucket that holds a minute's worth and is filled up evenly, in whole numbers.

Times are nanoseconds of any clock that does not go backwards. Within ``t`` seconds no more is let through
than ``per_minute × (1 + t / 60)``: nothing is rounded, so that no sum of small errors ever adds to it.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_NS = 60_000_000_000
MOST_DEBT_MINUTES = 24 * 60
"""An answer that takes more than was set aside for it has others wait, but never for longer than a day."""


@dataclass(frozen=True)
class Share:
    """What was taken of a bucket, to be given back in part. ``end`` and ``returned``: of the bucket, then."""

    amount: int
    per_minute: int
    end: int
    returned: int


@dataclass(slots=True)
class Bucket:
    """``full_at`` is when it will be full again, in nanoseconds times ``per_minute``, so that all is exact;
    ``returned`` is what was ever given back, in the same unit; ``per_minute`` is 0 before it has a limit."""

    per_minute: int = 0
    full_at: int = 0
    returned: int = 0

    def adjust(self, per_minute: int, now_ns: int) -> None:
        """Have another limit from now on: what is used stays so in proportion, and what is under way gives
        nothing back."""
        if per_minute != self.per_minute:
            missing = self._missing(now_ns)
            self.full_at = now_ns * per_minute - (-missing * per_minute // max(1, self.per_minute))
            self.returned += MOST_DEBT_MINUTES * MINUTE_NS * max(per_minute, self.per_minute)
            self.per_minute = per_minute

    def wait_ns(self, amount: int, now_ns: int) -> int:
        """Until so much may be taken, at most ``per_minute``; 0 = now."""
        over = self._missing(now_ns) + (amount - self.per_minute) * MINUTE_NS
        return max(0, -(-over // self.per_minute))

    def take(self, amount: int, now_ns: int) -> Share:
        """Take so much, whether it may be or not."""
        missing = self._missing(now_ns) + amount * MINUTE_NS
        most = MOST_DEBT_MINUTES * MINUTE_NS * self.per_minute
        self.full_at = now_ns * self.per_minute + min(missing, most)
        return Share(amount, self.per_minute, self.full_at, self.returned)

    def settle(self, share: Share, used: int, now_ns: int) -> None:
        """Of what was taken, only ``used`` was needed, or more.

        Given back is what time has not given back yet: what was taken is renewed in the order of taking, and
        what others gave back is held to have been before it.
        """
        if used > share.amount:
            self.take(used - share.amount, now_ns)
        elif share.per_minute == self.per_minute:
            not_renewed = share.end - (self.returned - share.returned) - now_ns * self.per_minute
            back = max(0, min((share.amount - used) * MINUTE_NS, not_renewed))
            self.full_at -= back
            self.returned += back

    def left(self, now_ns: int) -> int:
        """What may be taken now."""
        return max(0, self.per_minute - -(-self._missing(now_ns) // MINUTE_NS))

    def reset_ns(self, now_ns: int) -> int:
        """Until it is full again."""
        return -(-self._missing(now_ns) // self.per_minute)

    def _missing(self, now_ns: int) -> int:
        return max(0, self.full_at - now_ns * self.per_minute)


def go_duration(span_ns: int) -> str:
    """A time as the headers of OpenAI's API tell it: ``0s``, ``120ms``, ``1.5s``, ``6m0s``, ``1h0m0s``. To
    the millisecond, rounded up."""
    millis = -(-span_ns // 1_000_000)
    if 0 < millis < 1000:
        return f"{millis}ms"
    seconds, rest = divmod(millis, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    last = f"{seconds}.{rest:03}".rstrip("0") if rest else str(seconds)
    if hours:
        return f"{hours}h{minutes}m{last}s"
    return f"{minutes}m{last}s" if minutes else f"{last}s"
