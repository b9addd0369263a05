"""The load of a vLLM engine and what it has counted, from what it tells Prometheus."""

from __future__ import annotations

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from billing.core.reconciliation import Counts
from common.load import EngineLoad
from inference.ports import EngineCounters

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
KV_CACHE = "vllm:kv_cache_usage_perc"
FIRST_TOKEN = "vllm:time_to_first_token_seconds_bucket"
FINISHED = "vllm:request_success_total"
STARTED = "process_start_time_seconds"
PROMPT, COMPLETION = "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
BEGUN = "vllm:time_to_first_token_seconds_count"
_GAUGES = (RUNNING, WAITING, KV_CACHE)
_COUNTERS = (STARTED, PROMPT, COMPLETION, BEGUN, RUNNING, WAITING)


def read_load(text: str) -> EngineLoad:
    """From the page of ``/metrics``; ranks of data parallelism are added up, the use of their caches is
    averaged. Raises ``ValueError`` that names a gauge that is not there, or where the page cannot be read.
    """
    values: dict[str, list[float]] = {name: [] for name in _GAUGES}
    buckets: Counter[float] = Counter()
    finished = 0.0
    lines = [line for line in text.splitlines() if line.startswith((*_GAUGES, FIRST_TOKEN, FINISHED))]
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            if sample.name in values:
                values[sample.name].append(float(sample.value))
            elif sample.name == FIRST_TOKEN:
                buckets[float(sample.labels["le"])] += round(sample.value)
            elif sample.name == FINISHED:
                finished += sample.value
    for name, found in values.items():
        if not found:
            raise ValueError(f"{name} is not there; engines need their statistics")
    caches = values[KV_CACHE]
    return EngineLoad(
        running=round(sum(values[RUNNING])),
        waiting=round(sum(values[WAITING])),
        kv_cache_use=sum(caches) / len(caches),
        first_token_buckets=tuple(sorted(buckets.items())),
        finished=round(finished),
    )


def read_counters(text: str) -> EngineCounters:
    """From the page of ``/metrics``, with ranks of data parallelism added up. Several servers of one engine
    do not tell when they were started. Raises ``ValueError`` that names a counter that is not there, or where
    the page cannot be read."""
    sums: Counter[str] = Counter()
    lines = [line for line in text.splitlines() if line.split("{")[0].split(" ")[0] in _COUNTERS]
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            sums[sample.name] += round(1000 * sample.value if sample.name == STARTED else sample.value)
    for name in _COUNTERS:
        if name not in sums and name != STARTED:
            raise ValueError(f"{name} is not there; engines need their statistics")
    counts = Counts(sums[PROMPT], sums[COMPLETION], sums[BEGUN])
    return EngineCounters(sums[STARTED], counts, sums[RUNNING] + sums[WAITING])
