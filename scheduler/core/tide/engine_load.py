"""How full engines are: what they tell, as numbers for the tide."""

from __future__ import annotations

MOST_FULL = 2.0
"""A queue says that more is needed, not how much: an engine counts as at most so many times full."""


def fullness(
    in_flight: int, kv_cache_use: float, requests_per_replica: float, kv_cache_limit: float
) -> float:
    """How full an engine is, 1.0 = full, by requests that run or wait and by use of its KV cache (0 to 1)."""
    return min(MOST_FULL, max(in_flight / requests_per_replica, kv_cache_use / kv_cache_limit))
