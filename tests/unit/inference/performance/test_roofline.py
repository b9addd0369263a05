"""Step times worked out from a device's figures: close to measured kernels, and never absurd."""

import math
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.roofline import Roofline
from inference.core.performance.steps import Engine, NotKnown, StepTimes
from tests.fixtures.performance_scene import (
    LLAMA_8B,
    QWEN_32B,
    KernelStep,
    configs,
    figures,
    kernel_steps,
    shape,
)

DEVICES = ("A100-SXM4-80GB", "H100-SXM", "H200-SXM", "B200", "L40S", "910B3", "MI300X")


def of(step: KernelStep) -> float:
    engine = Engine(shape(step.model), figures(step.device), Layout(step.tensor))
    steps: StepTimes = Roofline().steps(engine)
    if step.kind == "prefill":
        return steps.prefill_ms(step.sequences, step.tokens)
    if step.kind == "decode":
        return steps.decode_ms(step.sequences, step.tokens)
    return steps.mixed_ms(step.tokens, step.tokens, step.sequences, step.tokens + 250)


def errors(kind: str, *, direct: bool = True, blocks: bool = False) -> list[float]:
    """Factors, at least 1, between our times and those of measured kernels. ``direct``: over direct links;
    ``blocks``: of models quantised in blocks of fp8, which are fitted worst."""
    found = [
        abs(math.log(of(step) / step.milliseconds))
        for step in kernel_steps()
        if step.kind == kind
        and (step.device != "L40S" or step.tensor == 1) is direct
        and ("FP8" in step.model or "DeepSeek" in step.model) is blocks
    ]
    assert len(found) >= 5
    return [math.exp(error) for error in found]


@pytest.mark.parametrize(("kind", "most"), [("decode", 1.15), ("prefill", 1.25), ("mixed", 1.25)])
def test_half_of_all_passes_are_within_the_documented_error(kind: str, most: float) -> None:
    assert median(errors(kind)) < most


def test_passes_of_devices_on_the_host_bus_are_in_the_right_order() -> None:
    assert median(errors("decode", direct=False)) < 1.4
    assert median(errors("prefill", direct=False)) < 2.0


def test_models_of_fp8_blocks_are_within_a_factor_of_two() -> None:
    assert median(errors("decode", blocks=True)) < 2.0


@given(
    st.sampled_from(sorted(configs())),
    st.sampled_from(DEVICES),
    st.sampled_from((1, 2, 4, 8)),
    st.integers(1, 300),
    st.integers(1, 30_000),
)
def test_more_work_never_takes_less_time(
    model: str, device: str, tensor: int, sequences: int, tokens: int
) -> None:
    steps = Roofline().steps(Engine(shape(model), figures(device), Layout(tensor)))
    decode = steps.decode_ms(sequences, tokens)
    assert 0 < decode <= steps.decode_ms(sequences + 1, tokens)
    assert decode <= steps.decode_ms(sequences, tokens + 100)
    prefill = steps.prefill_ms(1, tokens)
    assert 0 < prefill <= steps.prefill_ms(2, tokens)
    assert prefill <= steps.mixed_ms(tokens, tokens, sequences, tokens + 10) + 1e-9
    assert decode <= steps.mixed_ms(tokens, tokens, sequences, tokens) + 1e-9


def test_a_faster_device_is_faster() -> None:
    slow, fast = (
        Roofline().steps(Engine(shape(QWEN_32B), figures(name), Layout(4)))
        for name in ("A100-SXM4-80GB", "B200")
    )
    assert slow.prefill_ms(1, 4000) > 2 * fast.prefill_ms(1, 4000)
    assert slow.decode_ms(32, 4000) > 2 * fast.decode_ms(32, 4000)


def test_weights_in_a_format_that_a_device_has_not_are_unpacked() -> None:
    old = figures("A100-SXM4-80GB")
    assert old.flops("fp8") == old.flops("bf16")
    quantised = Roofline().steps(Engine(shape("Qwen/Qwen3-32B-FP8"), old, Layout(2)))
    plain = Roofline().steps(Engine(shape(QWEN_32B), old, Layout(2)))
    assert quantised.decode_ms(1, 100) < 0.9 * plain.decode_ms(1, 100)
    assert quantised.prefill_ms(1, 8000) > plain.prefill_ms(1, 8000)


def test_a_device_without_figures_is_not_guessed() -> None:
    unknown = DeviceFigures("hygon/K100-AI", "K100-AI", {}, memory_bytes=64 * 1024**3)
    with pytest.raises(NotKnown, match="tflops, bandwidthGbytesPerSecond of K100-AI"):
        Roofline().steps(Engine(shape(LLAMA_8B), unknown, Layout()))
