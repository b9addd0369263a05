"""This pool's own measurements: believed where they were made, and never beyond their reach."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from inference.core.performance.device_figures import Layout
from inference.core.performance.measured import MEASURED, REACH, Measured, Measurement
from inference.core.performance.options import Slo
from inference.core.performance.roofline import Roofline
from inference.core.performance.serving import Point, Traffic, decode_point, mixed_point, prefill_point
from inference.core.performance.sizing import Sizing
from inference.core.performance.steps import Engine
from inference.measurements import read_measurements
from tests.fixtures.performance_scene import LLAMA_8B, figures, shape, supply

ENGINE = Engine(shape(LLAMA_8B), figures("H100-SXM"), Layout(1))
STEPS = Roofline().steps(ENGINE)
LOAD = Traffic(2000, 400)
AT = Measurement(LLAMA_8B, "nvidia/H100-SXM", Layout(1), 32, 2000, 400, 200.0, 20.0, "vllm bench serve")


def point(batch: int = 32, load: Traffic = LOAD) -> Point:
    return mixed_point(ENGINE, STEPS, batch, load)


def corrected(batch: int = 32, load: Traffic = LOAD, *known: Measurement) -> Point:
    return Measured(known or (AT,)).correct(ENGINE, STEPS, point(batch, load), load)


def test_where_it_was_measured_the_measurement_holds() -> None:
    found = corrected()
    assert found.ttft_ms == pytest.approx(200.0, rel=0.01)
    assert found.itl_ms == pytest.approx(20.0, rel=0.01)
    assert found.source == MEASURED
    seconds = (point().ttft_ms + 399 * point().itl_ms) / (found.ttft_ms + 399 * found.itl_ms)
    assert found.requests_per_second == pytest.approx(point().requests_per_second * seconds)


def test_beyond_its_reach_it_says_nothing() -> None:
    assert corrected(32 * 8) == point(32 * 8)
    far = Traffic(2000, 400 * 5)
    assert corrected(32, far) == point(32, far)
    for change in ({"layout": Layout(2)}, {"device": "nvidia/H200"}):
        assert corrected(32, LOAD, replace(AT, **change)) == point()


def test_between_two_measurements_lies_what_is_between_them() -> None:
    few = replace(AT, batch=16, itl_ms=2 * point(16).itl_ms, ttft_ms=2 * point(16).ttft_ms)
    many = replace(AT, batch=64, itl_ms=3 * point(64).itl_ms, ttft_ms=3 * point(64).ttft_ms)
    ratios = [corrected(b, LOAD, few, many).itl_ms / point(b).itl_ms for b in (16, 24, 32, 48, 64)]
    assert ratios[0] == pytest.approx(2.0, rel=0.03)
    assert ratios[-1] == pytest.approx(3.0, rel=0.03)


@given(st.floats(0.2, 5.0), st.integers(1, 512), st.integers(100, 20_000), st.integers(2, 4000))
def test_a_correction_is_never_more_than_what_was_measured_and_nothing_jumps(
    ratio: float, batch: int, prompt: int, output: int
) -> None:
    slow = replace(AT, ttft_ms=ratio * point().ttft_ms, itl_ms=ratio * point().itl_ms)
    load = Traffic(prompt, output)
    low, high = sorted((1.0, ratio))
    found = corrected(batch, load, slow).itl_ms / point(batch, load).itl_ms
    assert low - 1e-9 <= found <= high + 1e-9
    beside = Traffic(prompt + 1, output)
    near = corrected(batch, beside, slow).itl_ms / point(batch, beside).itl_ms
    assert near == pytest.approx(found, rel=0.05)


def test_legs_are_made_of_the_same_passes() -> None:
    slow = replace(AT, ttft_ms=2 * point().ttft_ms, itl_ms=3 * point().itl_ms)
    measured = Measured([slow])
    reading = prefill_point(ENGINE, STEPS, 1, LOAD)
    writing = decode_point(ENGINE, STEPS, 32, LOAD)
    read, written = (measured.correct(ENGINE, STEPS, one, LOAD) for one in (reading, writing))
    assert read.ttft_ms == pytest.approx(2 * reading.ttft_ms, rel=0.01)
    assert read.requests_per_second == pytest.approx(reading.requests_per_second / 2, rel=0.01)
    assert written.itl_ms == pytest.approx(3 * writing.itl_ms, rel=0.01)
    assert written.requests_per_second == pytest.approx(writing.requests_per_second / 3, rel=0.01)


def test_a_device_that_measured_slow_is_not_taken_by_its_data_sheet() -> None:
    pool = [supply("H200-SXM", 8), supply("H100-SXM", 8)]

    def best(*known: Measurement) -> str:
        sizing = Sizing(shape(LLAMA_8B), pool, [Roofline()], LOAD, Slo(None, 30), Measured(known))
        options = [one for one in sizing.options()[0] if one.mode != "disaggregated"]
        return max(options, key=lambda one: one.tokens_per_second_per_device).legs[0].supply.figures.name

    slow = [
        replace(AT, device="nvidia/H200-SXM", layout=Layout(n), batch=b, itl_ms=90.0)
        for n in (1, 2, 4, 8)
        for b in (2, 8, 32, 128)
    ]
    assert best() == "H200-SXM"
    assert best(*slow) == "H100-SXM"


ROW = """- model: p/chat
  deviceClass: nvidia/H100
  tensorParallel: 2
  batch: 31.5
  promptTokens: 2000
  outputTokens: 400
  ttftMilliseconds: 210
  interTokenMilliseconds: 21.5
  by: vllm bench serve, 200 prompts
"""


def test_the_table_is_read_as_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "measured.yaml"
    file.write_text(ROW)
    (read,) = read_measurements(file)
    assert (read.model, read.device, read.layout, read.batch) == ("p/chat", "nvidia/H100", Layout(2, 1), 31.5)
    assert (read.ttft_ms, read.itl_ms, read.by) == (210.0, 21.5, "vllm bench serve, 200 prompts")


def test_a_table_is_read_once_until_it_changes(tmp_path: Path) -> None:
    """Every plan asks for it, and others wait meanwhile."""
    file = tmp_path / "measured.yaml"
    file.write_text(ROW)
    first = read_measurements(file)
    assert read_measurements(file) is first
    file.write_text(ROW + ROW)
    assert len(read_measurements(file)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a list"),
        ("{}", "must be a list"),
        ("- 1", r"measured.yaml:\[0\]: must be a mapping"),
        ("[", "measured.yaml"),
        (ROW + ROW.replace("batch: 31.5", "batch: 0"), r"\[1\].*batch"),
        (ROW.replace("by:", "from:"), r"\[0\].*by"),
        (ROW.replace("210", ".inf"), "ttftMilliseconds|JSON"),
    ],
)
def test_what_is_wrong_in_the_table_is_named(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "measured.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=said):
        read_measurements(file)
    with pytest.raises(InvalidInput, match=r"gone.yaml"):
        read_measurements(tmp_path / "gone.yaml")


def test_one_doubling_is_where_model_and_measurement_weigh_the_same() -> None:
    slow = replace(AT, itl_ms=4 * point().itl_ms)
    assert REACH == 2.0
    ratio = corrected(64, LOAD, slow).itl_ms / point(64).itl_ms
    assert ratio == pytest.approx(2.0, rel=0.05)
