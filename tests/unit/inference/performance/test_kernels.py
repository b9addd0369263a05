"""Figures from `aiconfigurator-core`: used where the extra is there, and never in anybody's way."""

import importlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace as Told
from typing import Any

import pytest

from inference.adapters import aiconfigurator
from inference.adapters.aiconfigurator import KernelSteps, MeasuredKernels, installed, known_config_file
from inference.core.performance.device_figures import Layout
from inference.core.performance.options import Slo
from inference.core.performance.roofline import Roofline
from inference.core.performance.serving import Traffic
from inference.core.performance.sizing import Sizing
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


class Library:
    """Stands in for the library: notes what engines it is to make and what these are asked."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.asked: list[Any] = []
        self.fails = False
        self.EngineHandle = Told(compile=self._compile)

    def _compile(self, folder: str, *words: str, **options: Any) -> Any:
        content = json.loads((Path(folder) / "config.json").read_text())
        quiet = [logging.getLogger(name).level for name in ("aiconfigurator_core", "aiconfigurator_core.sdk")]
        self.made.append((Path(folder), content, words, options, quiet))
        if self.fails:
            raise RuntimeError("no such architecture")
        return self

    def __getattr__(self, name: str) -> Any:
        def answer(*numbers: int) -> float:
            self.asked.append((name, *numbers))
            return 7.5

        return answer


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library()
    real = importlib.import_module
    monkeypatch.setattr(
        importlib, "import_module", lambda name: found if name == "aiconfigurator_core.sdk" else real(name)
    )
    monkeypatch.setattr(aiconfigurator, "installed", lambda: True)
    aiconfigurator._compiled.cache_clear()
    return found


@pytest.mark.parametrize(
    ("model", "layout", "experts"),
    [
        (LLAMA_8B, Layout(2, 4), {"moe_tp_size": None, "moe_ep_size": None}),
        ("Qwen/Qwen3-30B-A3B", Layout(8), {"moe_tp_size": 8, "moe_ep_size": 1}),
    ],
)
def test_the_library_makes_an_engine_of_the_config_once(
    library: Library, model: str, layout: Layout, experts: dict[str, Any]
) -> None:
    """From a folder that is there meanwhile only, and without its words."""
    logging.getLogger("aiconfigurator_core").setLevel(logging.INFO)
    engine = Engine(shape(model), figures("H100-SXM"), layout)
    for _ in range(2):
        steps = MeasuredKernels(dict(reversed(configs()[model].items()))).steps(engine)
    [(folder, content, words, options, quiet)] = library.made
    assert content == configs()[model]
    assert words == ("h100_sxm", "vllm")
    assert options == {"tp_size": layout.tensor, "pp_size": layout.pipeline, **experts}
    assert not folder.exists()
    assert quiet == [logging.ERROR, logging.ERROR]
    assert logging.getLogger("aiconfigurator_core").level == logging.INFO
    assert (steps.prefill_ms(3, 100), steps.decode_ms(4, 200), steps.source) == (7.5, 7.5, "aiconfigurator")
    assert (steps.mixed_ms(50, 100, 4, 120), steps.mixed_ms(50, 100, 4, 100)) == (7.5, 7.5)
    assert library.asked == [
        ("predict_prefill_latency", 3, 100),
        ("decode_step_latency", 4, 200, 2),
        ("mixed_step_latency", 50, 4, 100, 40),
        ("mixed_step_latency", 50, 4, 100, 2),
    ]


def test_an_engine_that_the_library_cannot_make_is_not_known(library: Library) -> None:
    library.fails = True
    logging.getLogger("aiconfigurator_core").setLevel(logging.WARNING)
    with pytest.raises(NotKnown, match="aiconfigurator_core: no such architecture"):
        MeasuredKernels(configs()[LLAMA_8B]).steps(Engine(shape(LLAMA_8B), figures("L40S"), Layout(4)))
    assert logging.getLogger("aiconfigurator_core").level == logging.WARNING
    assert not library.made[0][0].exists()


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
