"""Figures from `aiconfigurator-core`: used where the extra is there, and never in anybody's way."""

from collections.abc import Iterator
from typing import Any

import pytest

from inference.adapters import aiconfigurator
from inference.adapters.aiconfigurator import KernelSteps, MeasuredKernels, installed, known_config_file
from inference.core.performance.device_figures import Layout
from inference.core.performance.options import Sizing, Slo
from inference.core.performance.roofline import Roofline
from inference.core.performance.serving import Traffic
from inference.core.performance.steps import Engine, NotKnown
from tests.fixtures.performance_scene import LLAMA_8B, configs, figures, shape, supply


class Odd:
    """An engine of the library that answers, or fails, as it is told."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def predict_prefill_latency(self, *_: int) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    decode_step_latency = mixed_step_latency = predict_prefill_latency


@pytest.mark.parametrize("answer", [0.0, -1.0, float("nan"), float("inf"), "?", RuntimeError("no data")])
def test_what_is_no_time_is_not_known(answer: object) -> None:
    steps = KernelSteps(Odd(answer))
    for ask in (
        lambda: steps.prefill_ms(1, 10),
        lambda: steps.decode_ms(1, 10),
        lambda: steps.mixed_ms(10, 10, 1, 10),
    ):
        with pytest.raises(NotKnown, match="aiconfigurator_core"):
            ask()


def test_an_engine_that_the_library_does_not_know_is_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it fails in the middle: no option has figures of two sources."""
    calls: Iterator[Any] = iter([10.0, 20.0, *[RuntimeError("no data of this batch")] * 1000])

    class Failing:
        def decode_step_latency(self, *_: int) -> float:
            answer = next(calls)
            if isinstance(answer, Exception):
                raise answer
            return float(answer)

        predict_prefill_latency = mixed_step_latency = decode_step_latency

    monkeypatch.setattr(aiconfigurator, "installed", lambda: True)
    monkeypatch.setattr(aiconfigurator, "_compiled", lambda *_: Failing())
    sources = (MeasuredKernels(configs()[LLAMA_8B]), Roofline())
    options, _ = Sizing(shape(LLAMA_8B), [supply("H100-SXM", 1)], sources, Traffic(500, 100), Slo()).options()
    assert [leg.point.source for option in options for leg in option.legs] == ["roofline"]


def test_devices_that_it_did_not_measure_are_left_to_others() -> None:
    with pytest.raises(NotKnown, match="910B3"):
        MeasuredKernels(configs()[LLAMA_8B]).steps(Engine(shape(LLAMA_8B), figures("910B3"), Layout()))


def test_without_the_extra_no_config_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiconfigurator, "installed", lambda: False)
    assert known_config_file(LLAMA_8B) is None


@pytest.mark.skipif(not installed(), reason="the extra `performance` is not installed")
def test_the_library_tells_passes_and_configs_without_a_network() -> None:
    assert known_config_file("../secret") is None
    file = known_config_file(LLAMA_8B)
    assert file is not None
    steps = MeasuredKernels(configs()[LLAMA_8B]).steps(
        Engine(shape(LLAMA_8B), figures("H100-SXM"), Layout(2))
    )
    assert 20 < steps.prefill_ms(1, 4000) < 100
    assert 3 < steps.decode_ms(16, 2000) < 15
    assert steps.mixed_ms(4000, 4000, 16, 4500) > steps.prefill_ms(1, 4000)
    unknown = {**configs()[LLAMA_8B], "architectures": ["NeverHeardOf"]}
    with pytest.raises(NotKnown):
        MeasuredKernels(unknown).steps(Engine(shape(LLAMA_8B), figures("H100-SXM"), Layout()))
