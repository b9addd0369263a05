"""The targets of the fuzzer hold their rule on daily input, on what once broke it, and on some changes of
both; so they do not rot between the long runs by hand (tests/fuzz)."""

import gc
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import __main__ as command
from tests.fuzz.mutate import mutated
from tests.fuzz.target import MAX_INPUT_BYTES, Target, TooSlow, run
from tests.fuzz.targets import TARGETS

EXAMPLES = 40
"""Of each target: some tenths of a second."""
KEPT_BYTES = 64 * 1024

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())


@each_target
def test_daily_input_keeps_the_rule(target: Target) -> None:
    for seed in target.seeds:
        run(target, seed)


@pytest.mark.parametrize(
    ("target", "data"),
    [
        pytest.param(target, data, id=f"{target.name}: {what}")
        for target in TARGETS.values()
        for what, data in target.found.items()
    ],
)
def test_what_once_broke_the_rule_keeps_it(target: Target, data: bytes) -> None:
    run(target, data)


@each_target
def test_changed_input_keeps_the_rule(target: Target) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from([*target.seeds, *target.found.values()]), st.integers(0, 2**32))
    def check(data: bytes, seed: int) -> None:
        run(target, mutated(data, Random(seed), target.words))

    check()


@each_target
def test_no_input_leaves_memory_behind(target: Target) -> None:
    """What libraries keep once is kept after the first rounds; later ones add nothing."""
    inputs = [data for data in (*target.seeds, *target.found.values()) if len(data) < 4096]
    tracemalloc.start()
    try:
        for _ in range(2):
            for data in inputs:
                run(target, data)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            for data in inputs:
                run(target, data)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < KEPT_BYTES


@given(st.binary(max_size=200), st.integers(0, 2**32))
@settings(derandomize=True, database=None)
def test_changes_can_be_had_again_and_stay_within_the_limit(data: bytes, seed: int) -> None:
    once, again = (mutated(data, Random(seed), ("usage",)) for _ in range(2))
    assert once == again
    assert len(once) <= MAX_INPUT_BYTES


def test_what_takes_long_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.target.MAX_CPU_SECONDS", 0.0)
    with pytest.raises(TooSlow, match="slow took"):
        run(Target("slow", "", lambda data: None, ()), b"a")


def test_an_input_is_given_again_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"{}")
    assert command.main(["body-chat", "--input", str(path)]) == 0
    assert "nothing wrong" in capsys.readouterr().out


def test_without_the_fuzzer_the_command_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_has_atheris", lambda: False)
    assert command.main(["all"]) == 3
    assert "pip install -e .[fuzz]" in capsys.readouterr().err
