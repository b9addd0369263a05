"""What is asked for often, and what an answer is counted as."""

from collections import Counter
from pathlib import Path

import pytest

from bench.adapters.__main__ import outcome
from bench.adapters.engine_log import EngineLog, engine_environment
from bench.adapters.traffic import Told, drawn
from bench.adapters.world import Registered


def test_few_are_asked_for_often_and_the_seed_says_which() -> None:
    names = [str(number) for number in range(100)]
    asked = drawn(names, 20_000, 1.0, 7)
    assert asked == drawn(names, 20_000, 1.0, 7) != drawn(names, 20_000, 1.0, 8)
    (first, most), (_, second), *_ = Counter(asked).most_common()
    assert most == pytest.approx(2 * second, rel=0.1)
    assert first != "0"


def test_an_answer_is_held_against_what_its_adapter_says_and_a_miss_is_what_the_engine_took_in(
    tmp_path: Path,
) -> None:
    engine_environment(tmp_path)
    lines = ["5.0 Adding lora. Model id: 1, int id: 1", "11.5 Adding lora. Model id: 2, int id: 2", "12 odd"]
    (tmp_path / "engine-adapters.log").write_text("\n".join(lines))
    log = EngineLog(tmp_path, {"a": 1, "b": 2})
    known = Registered(("a", "b"), {"a": "A", "b": "B"}, "base", 1.0, 1.0, 1.0, (1.0,))
    told = [
        Told("a", 10.0, 10.25, "A"),
        Told("b", 11.0, 11.75, "B"),
        Told("b", 12.0, 12.25, "base"),
        Told("a", 13.0, 13.25, "B"),
        Told("a", 14.0, error="gone"),
    ]
    found = outcome(told, known, log)
    assert (found["right_answers"], found["silent_base"], found["errors"]) == (2, 1, 1)
    assert found["hit_rate"] == 0.75
    assert found["ttft_ms"] == {"hit": {"p50": 250.0, "p99": 250.0}, "miss": {"p50": 750.0, "p99": 750.0}}
    assert log.number(10.0) == 1
