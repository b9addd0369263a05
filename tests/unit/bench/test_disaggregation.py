"""The bench of prefill and decode: its traces, its gateway, and one small round of all modes."""

import gzip
import json
from pathlib import Path

import pytest

from bench.disaggregation.__main__ import MODES, main
from bench.disaggregation.gateway import PromptCache
from bench.disaggregation.play import fixed_splits, play
from bench.disaggregation.pools import LLAMA_8B, POOLS, pool_of
from bench.disaggregation.traces import at_rate, read_trace
from bench.routing.trace import Request
from inference.core.performance.options import Slo

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{second:02}.0000000,{500 + 97 * (second % 7)},{20 + second % 5}\n"
    for second in range(60)
)


@pytest.fixture
def azure(tmp_path: Path) -> Path:
    path = tmp_path / "AzureLLMInferenceTrace_code.csv.gz"
    path.write_bytes(gzip.compress(AZURE.encode()))
    return path


@pytest.fixture
def mooncake(tmp_path: Path) -> Path:
    path = tmp_path / "mooncake_conversation_trace.jsonl"
    rows = [
        {"timestamp": 1000 * at, "input_length": 1500, "output_length": 40, "hash_ids": [1, 2, at + 3]}
        for at in range(60)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_traces_have_their_short_names_and_limits(azure: Path, mooncake: Path) -> None:
    code, conversation = read_trace(azure), read_trace(mooncake)
    assert (code.name, code.ttft_ms, code.itl_ms) == ("code", 1000, 40)
    assert (conversation.name, conversation.ttft_ms) == ("mooncake_conversation", 5000)
    assert code.rate == pytest.approx(60 / 59)


def test_any_rate_is_made_of_tenants_that_begin_elsewhere(azure: Path) -> None:
    requests = at_rate(read_trace(azure), 5.0, 40.0, 1, start=100.0, first=7)
    assert len(requests) == pytest.approx(200, rel=0.1)
    assert requests[0].at_seconds >= 100.0
    assert {one.tenant for one in requests} == set(range(7, 12))
    assert requests == at_rate(read_trace(azure), 5.0, 40.0, 1, start=100.0, first=7)


def test_a_cache_forgets_what_was_used_least() -> None:
    cache = PromptCache(2 * 512)
    first, second = Request(0.0, 0, (1, 2), 1024, 10), Request(0.0, 1, (1,), 512, 10)
    cache.keep(first)
    assert cache.cached(first) == 1023, "the last token has to be read"
    cache.keep(second)
    assert cache.cached(first) == 512, "its end went first"
    assert cache.cached(Request(0.0, 2, (1, 2), 1024, 10)) == 0, "of another tenant"


@pytest.mark.parametrize("name", POOLS)
def test_every_pool_has_eight_devices_with_figures(name: str) -> None:
    pool = pool_of(name, LLAMA_8B)
    assert pool.fleet.devices == 8
    assert {fleet.readers for fleet in fixed_splits(pool)} == set(range(1, 8))


def test_prompts_that_share_beginnings_are_read_faster(mooncake: Path) -> None:
    pool, trace = pool_of("h100-h200", LLAMA_8B), read_trace(mooncake)
    shared = play(pool, pool.fleet, trace.requests, Slo(5000, 50), 60.0)
    alone = [
        Request(one.at_seconds, number, one.blocks, one.prompt_tokens, one.answer_tokens)
        for number, one in enumerate(trace.requests)
    ]
    assert shared.ttft_p50_ms < 0.8 * play(pool, pool.fleet, alone, Slo(5000, 50), 60.0).ttft_p50_ms


def test_all_modes_of_two_traces_and_both_in_turn(
    azure: Path, mooncake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--minutes", "0.5", "--loads", "0.3", "--pools", "ascend-910b", "--json"]
    assert main(["--trace", str(azure), str(mooncake), *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    traces = found["goodput"]["ascend-910b"]
    assert set(traces) == {"code", "mooncake_conversation", "shifting"}
    assert all(set(modes) == set(MODES) and min(modes.values()) > 0 for modes in traces.values())


def test_what_is_no_trace_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("a,b\n1,2\n")
    assert main(["--trace", str(path)]) == 2
    assert "odd.csv" in capsys.readouterr().err
