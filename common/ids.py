"""The one place that makes ids and secrets.

Ids are ``<prefix>-<26 characters>``: 48 bits of milliseconds, 80 bits of randomness, Crockford base 32 in
lower case (the ULID layout), so they sort by time of making.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections import deque
from functools import lru_cache

from common.clock import SYSTEM_CLOCK, Clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_DRAWN_AT_ONCE, _BITS_80, _BITS_40 = 64, (1 << 80) - 1, (1 << 40) - 1
_MILLISECOND_PAIRS = 5


def _base32(value: int, pairs: int) -> str:
    """The last so many pairs of digits."""
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(10 * (pairs - 1), -1, -10)])


def _random(bits: int) -> str:
    """80 bits: as ``_base32``, of two numbers that are quick to shift."""
    high, low, pairs = bits >> 40, bits & _BITS_40, _PAIRS
    return (
        f"{pairs[high >> 30]}{pairs[high >> 20 & 1023]}{pairs[high >> 10 & 1023]}{pairs[high & 1023]}"
        f"{pairs[low >> 30]}{pairs[low >> 20 & 1023]}{pairs[low >> 10 & 1023]}{pairs[low & 1023]}"
    )


@lru_cache(maxsize=1)
def _time(now_ms: int) -> str:
    """Many ids are made in one millisecond."""
    return _base32(now_ms, _MILLISECOND_PAIRS)


_drawn: deque[int] = deque()
os.register_at_fork(after_in_child=_drawn.clear)


def fresh_bits() -> int:
    """80 random bits. The system is asked for many at once: asking takes longer than all else of an id."""
    while True:
        try:
            return _drawn.popleft()  # threads never get the same
        except IndexError:
            bits = secrets.randbits(80 * _DRAWN_AT_ONCE)
            _drawn.extend(bits >> 80 * place & _BITS_80 for place in range(_DRAWN_AT_ONCE))


def new_id(prefix: str, clock: Clock = SYSTEM_CLOCK) -> str:
    """A fresh, time-ordered id such as ``use-01k…``."""
    return f"{prefix}-{_time(clock.now_ms())}{_random(fresh_bits())}"


def derived_id(prefix: str, *parts: str | int) -> str:
    """The id that these parts always give: for events that may be made more than once but must count once."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return f"{prefix}-{_base32(int.from_bytes(digest[:16], 'big'), 13)}"


def new_secret(prefix: str) -> str:
    """An API key or token with 256 bits of randomness, e.g. ``ck-…``."""
    return f"{prefix}-{secrets.token_urlsafe(32)}"


def secret_digest(secret: str) -> str:
    """What is kept of a secret. Plain SHA-256 is enough: the secret itself has 256 bits of randomness."""
    return hashlib.sha256(secret.encode()).hexdigest()
