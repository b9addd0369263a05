"""The bench of routing: its worlds keep account, and its policies see the same requests."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bench.routing.__main__ import DECISIONS, POOLS, decision_microseconds, main
from bench.routing.engines import EngineKind, play
from bench.routing.policies import ABLATIONS, POLICIES, CacheAware, Exact, Ours, RoundRobin
from bench.routing.trace import Request, copies, read_trace
from common.errors import InvalidInput
from inference.core.routing.views import Ask


def talk(at: float, talk: int, turn: int) -> Request:
    """Turn after turn a conversation's prompt is two blocks longer; the first block is everybody's."""
    blocks = (0, *(1000 * talk + number for number in range(1, 2 + 2 * turn)))
    return Request(at, 0, blocks, 512 * len(blocks) - 100, 40)


TALKS = sorted(
    (talk(talk_ + 30.0 * turn, talk_, turn) for talk_ in range(20) for turn in range(5)),
    key=lambda request: request.at_seconds,
)
KIND = EngineKind(read_tokens_per_second=4000, waiting=8, cache_tokens=100_000)


def trace_file(path: Path, lines: list[Any]) -> Path:
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


LINES = [
    {"timestamp": 3000 * batch, "input_length": 900, "output_length": 9, "hash_ids": [0, number]}
    for batch in range(20)
    for number in range(1, 4)
]


@pytest.mark.parametrize("name", [*POLICIES, *ABLATIONS])
def test_every_request_is_answered_or_refused_and_nothing_stays_behind(name: str) -> None:
    policy = {**POLICIES, **ABLATIONS}[name](4)
    outcome = play(TALKS, policy, 4, KIND)
    assert len(outcome.ttft_seconds) + outcome.rejects == len(TALKS)
    assert min(outcome.ttft_seconds) > 0
    assert 0 < outcome.hit_rate < 1
    if isinstance(policy, Ours):
        views = policy._router.views.values()
        assert {(view.in_flight, view.unread_bytes) for view in views} == {(0, 0)}
    else:
        assert set(policy.in_flight) == {0}  # type: ignore[attr-defined]


def test_ours_has_most_in_caches_of_conversations_and_nobody_waits_longer() -> None:
    outcomes = {name: play(TALKS, make(6), 6, KIND) for name, make in POLICIES.items()}
    mean = {name: sum(one.ttft_seconds) / len(TALKS) for name, one in outcomes.items()}
    assert outcomes["ours"].hit_rate == max(outcome.hit_rate for outcome in outcomes.values()) > 0.7
    assert mean["ours"] == min(mean.values())


def test_exact_knows_what_the_engines_have_and_ours_what_it_sent_them() -> None:
    kind = EngineKind(cache_tokens=20 * 512)
    for policy in (Exact(3), Ours(3)):
        play(TALKS[:40], policy, 3, kind)
        last = TALKS[39]
        if isinstance(policy, Exact):
            policy.choose(last, 1e9)
            mask = policy._true_levels(Ask(memoryview(b""), b""), 0b111)[0][1]
            true = {slot for slot, engine in policy._engines.items() if engine.cached(last) > 512}
            assert {slot for slot in range(3) if mask >> slot & 1} <= true
        else:
            held = policy._router._index._bytes.values()
            assert max(held) <= 4 * kind.cache_tokens


def test_one_engine_with_room_for_all_has_what_was_asked_before() -> None:
    outcome = play(TALKS, RoundRobin(1), 1, EngineKind(cache_tokens=10**9, waiting=10**6))
    asked = sum(request.prompt_tokens for request in TALKS)
    seen: set[int] = set()
    had = 0
    for request in TALKS:
        known = sum(block in seen for block in request.blocks)
        had += min(512 * known, request.prompt_tokens - 1)
        seen.update(request.blocks)
    assert outcome.hit_rate == pytest.approx(had / asked, abs=0.03)
    assert outcome.rejects == 0


def test_a_full_queue_refuses() -> None:
    same = [talk(0.0, number, 4) for number in range(30)]
    outcome = play(same, RoundRobin(1), 1, KIND)
    assert (outcome.rejects, len(outcome.ttft_seconds)) == (30 - 1 - KIND.waiting, 1 + KIND.waiting)


def test_the_peers_policy_goes_to_the_shortest_queue_where_loads_differ_much() -> None:
    policy = CacheAware(2)
    first = policy.choose(TALKS[0], 0.0)
    assert policy.choose(TALKS[0], 0.0) == first
    policy.in_flight[first] = 100
    assert policy.choose(TALKS[0], 0.0) != first


def test_a_trace_is_spread_and_multiplied_with_texts_for_each_tenant(tmp_path: Path) -> None:
    path = trace_file(tmp_path / "t.jsonl.gz", LINES)
    whole = read_trace(path)
    assert [round(one.at_seconds, 3) for one in whole[:4]] == [0, 1, 2, 3]
    assert len(read_trace(path, "first")) + len(read_trace(path, "second")) == len(whole) == 60
    assert read_trace(path, "second")[0].at_seconds == 0
    assert len(read_trace(path, "all", 30)) == 30
    many = copies(whole, 2.5, 1)
    assert len(many) == 180
    assert {one.tenant for one in many} == {0, 1, 2}
    prompts = {one.prompt for one in many}
    assert len(prompts) == 9
    assert {len(prompt) - len(b'{"messages":[{"role":"user","content":""}]') for prompt in prompts} == {3600}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"timestamp": 0}, "line 2"),
        ({**LINES[0], "hash_ids": [1]}, "hash_ids do not fit"),
        ({**LINES[0], "hash_ids": ["x", "y"]}, "line 2"),
        ("[", "line 2"),
    ],
)
def test_what_is_no_trace_is_told_by_its_line(
    tmp_path: Path, line: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trace_file(tmp_path / "t.jsonl.gz", [LINES[0], line])
    with pytest.raises(InvalidInput, match=told):
        read_trace(path)
    assert main(["--simulate", "--trace", str(path)]) == 2
    assert told in capsys.readouterr().err


def test_the_report_has_every_policy_and_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.routing.__main__.POOLS", (10,))
    path = trace_file(tmp_path / "t.jsonl.gz", LINES)
    options = ["--simulate", "--trace", str(path), "--replicas", "3", "--minutes", "0.5"]
    assert main([*options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["policies"]) == set(POLICIES)
    keys = {"hit_rate", "ttft_p50_ms", "ttft_p99_ms", "goodput_percent", "rejects"}
    assert all(set(one) == keys for one in found["policies"].values())
    assert found["decision_us"]["10"] > 0
    assert main([*options, "--policies", "ours"]) == 0
    assert "µs among 10" in capsys.readouterr().out


def test_the_cost_of_a_decision_is_that_of_the_decision_alone() -> None:
    ticks = iter(range(10**9))
    assert POOLS == (10, 100, 1000)
    requests = [talk(float(number), number, 1) for number in range(2 * DECISIONS)]
    assert decision_microseconds(requests, 3, lambda: 5000 * next(ticks)) == 5
