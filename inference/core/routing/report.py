"""What an engine tells of itself: its page of metrics is read often, so without a parser for all of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_GAUGE = re.compile(
    r"^vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc)(?:\{[^\n]*\})? ([0-9.eE+-]+)$",
    re.MULTILINE,
)
_DEFERRED = re.compile(
    r'^vllm:num_requests_waiting_by_reason\{(?:[^\n]*,)?reason="deferred"[^\n]*\} ([0-9.eE+-]+)$',
    re.MULTILINE,
)
"""Wait for something of their own: an adapter, a grammar, a cache on its way."""
_STARTED = re.compile(r"^process_start_time_seconds ([0-9.eE+-]+)$", re.MULTILINE)
_CACHE = re.compile(r"^vllm:cache_config_info\{([^\n]*)\} ", re.MULTILINE)
_BLOCK_TOKENS = re.compile(r'(?:^|,)block_size="([0-9]{1,9})"')
_BLOCKS = re.compile(r'(?:^|,)num_gpu_blocks="([0-9]{1,12})"')


@dataclass(frozen=True, slots=True)
class EngineReport:
    """``requests``: running and waiting; ``waiting``: those of them for which there is no room.
    ``cache_use``: part of the KV cache that running ones hold, 0 to 1.

    ``cache_tokens``: what the KV cache holds in all; ``started``: which process tells. None where not told.
    """

    requests: int
    cache_use: float
    cache_tokens: int | None = None
    started: str | None = None
    waiting: int = 0


def read_report(page: str) -> EngineReport | None:
    """None where the load is not told. Ranks of data parallelism are added up; the fullest cache counts."""
    gauges = _GAUGE.findall(page)
    if len({name for name, _ in gauges}) < 3:
        return None
    try:
        requests = sum(float(value) for name, value in gauges if name != "kv_cache_usage_perc")
        use = max(float(value) for name, value in gauges if name == "kv_cache_usage_perc")
        waiting = sum(float(value) for name, value in gauges if name == "num_requests_waiting")
        waiting -= sum(map(float, _DEFERRED.findall(page)))
        count, behind = max(0, round(requests)), round(waiting)
    except (ValueError, OverflowError):
        return None
    tokens = sum(_tokens(labels) for labels in _CACHE.findall(page))
    started = _STARTED.search(page)
    return EngineReport(
        count,
        min(1.0, max(0.0, use)),
        tokens or None,
        started[1] if started else None,
        min(count, max(0, behind)),
    )


def _tokens(labels: str) -> int:
    size, blocks = _BLOCK_TOKENS.search(labels), _BLOCKS.search(labels)
    return int(size[1]) * int(blocks[1]) if size and blocks else 0
