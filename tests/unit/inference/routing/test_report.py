"""What an engine tells of itself, read from its page of metrics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.routing.report import EngineReport, read_report
from tests.unit.inference.test_engine_metrics import PAGE

MORE = """vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="1000"} 1.0
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="1",num_gpu_blocks="500"} 1.0
process_start_time_seconds 1.76e+09
"""


def test_ranks_of_data_parallelism_are_one_engine_and_its_fullest_cache_counts() -> None:
    assert read_report(PAGE) == EngineReport(6, 0.5, waiting=1)
    assert read_report(PAGE + MORE) == EngineReport(6, 0.5, 24_000, "1.76e+09", 1)


@pytest.mark.parametrize("gone", ["num_requests_running", "num_requests_waiting{", "kv_cache_usage_perc"])
def test_a_page_that_does_not_tell_the_load_tells_nothing(gone: str) -> None:
    page = "\n".join(line for line in (PAGE + MORE).splitlines() if gone not in line)
    assert read_report(page) is None


@pytest.mark.parametrize("value", ["NaN", "+Inf", "1e999", "e", "-", "1.0 17"])
def test_a_gauge_that_is_no_number_tells_nothing(value: str) -> None:
    assert read_report(PAGE.replace('model_name="tiny"} 3.0', f'model_name="tiny"}} {value}')) in (
        None,
        EngineReport(3, 0.5, waiting=1),
    )


@given(st.text(st.sampled_from('vllm:num_requests_running{}",=0.5e+-\n ')), st.integers(0, len(PAGE + MORE)))
def test_any_page_is_read_or_tells_nothing(junk: str, at: int) -> None:
    whole = PAGE + MORE
    report = read_report(whole[:at] + junk + whole[at:])
    assert report is None or (report.requests >= 0 and 0 <= report.cache_use <= 1)


def test_requests_that_wait_for_something_of_their_own_are_not_behind_others() -> None:
    by_reason = "".join(
        f'vllm:num_requests_waiting_by_reason{{engine="0",model_name="m",reason="{reason}"}} {count}.0\n'
        for reason, count in (("capacity", 2), ("deferred", 5))
    )
    page = PAGE.replace("waiting{", "waiting_by{") + 'vllm:num_requests_waiting{engine="0"} 7.0\n'
    told = read_report(page + by_reason)
    assert told is not None
    assert told.waiting == 2
