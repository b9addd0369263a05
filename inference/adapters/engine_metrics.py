"""The load of a vLLM engine, from what it tells Prometheus."""

from __future__ import annotations

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from common.load import EngineLoad

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
KV_CACHE = "vllm:kv_cache_usage_perc"
FIRST_TOKEN = "vllm:time_to_first_token_seconds_bucket"
FINISHED = "vllm:request_success_total"
_GAUGES = (RUNNING, WAITING, KV_CACHE)


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
