"""The load of an engine, from its page of metrics."""

import pytest

from billing.core.reconciliation import Counts
from common.load import EngineLoad
from inference.adapters.engine_metrics import read_counters, read_load
from inference.ports import EngineCounters

PAGE = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 2.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.25
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="tiny"} 4.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="tiny"} 5.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="0.1",model_name="tiny"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="+Inf",model_name="tiny"} 1.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="tiny"} 5.0
process_open_fds 12.0
"""


def test_ranks_of_data_parallelism_are_one_engine() -> None:
    assert read_load(PAGE) == EngineLoad(5, 1, 0.375, ((0.1, 5), (float("inf"), 6)))


def test_an_engine_without_answers_yet_has_no_first_tokens() -> None:
    page = "\n".join(line for line in PAGE.splitlines() if "first_token" not in line)
    assert read_load(page).first_token_buckets == ()


@pytest.mark.parametrize("missing", ["num_requests_running", "kv_cache_usage_perc"])
def test_what_is_missing_is_named(missing: str) -> None:
    page = "\n".join(line for line in PAGE.splitlines() if missing not in line)
    with pytest.raises(ValueError, match=missing):
        read_load(page)


COUNTED = """process_start_time_seconds 1.5e+09
vllm:prompt_tokens_total{engine="0",model_name="tiny"} 2028.0
vllm:prompt_tokens_total{engine="1",model_name="tiny"} 2.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="tiny",source="local_compute"} 9.0
vllm:generation_tokens_total{engine="0",model_name="tiny"} 1968.0
"""


def test_what_an_engine_has_counted_since_it_was_started() -> None:
    told = read_counters(PAGE + COUNTED)
    assert told == EngineCounters(1_500_000_000_000, Counts(2030, 1968, 5), 6)
    several = read_counters(PAGE + COUNTED.replace("process_start", "other_start"))
    assert several.started_ms == 0


def test_a_counter_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="prompt_tokens_total"):
        read_counters(PAGE)


def test_a_page_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError):
        read_load("vllm:num_requests_running{ half a line")
