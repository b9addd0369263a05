"""Passes from own measurements alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.disaggregation.fitted import FEWEST, FittedPasses, FittedSteps, fit
from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.mode.rehearsal import Stage
from inference.core.mode.traffic import ServedRequest
from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.measured import Measurement
from inference.core.performance.options import Slo
from inference.core.performance.steps import Engine, NotKnown
from inference.core.performance.supply import Supply
from tests.fixtures.performance_scene import LLAMA_8B, shape

CPU = DeviceFigures("cpu/any", "any", memory_bytes=64 * 2**30)
ENGINE = Engine(shape(LLAMA_8B), CPU, Layout())
LOADS = ((1, 100, 30), (1, 400, 30), (4, 200, 40), (8, 100, 40))


def measured(truth: FittedSteps, loads: tuple[tuple[float, int, int], ...] = LOADS) -> list[Measurement]:
    """What clients of an engine with such passes see."""
    found = []
    for batch, prompt, output in loads:
        read = prompt * batch / output if batch > 1 else 0.0
        itl = truth.pass_ms + truth.token_ms * read + truth.sequence_ms * batch
        ttft = truth.prefill_ms(1, prompt)
        found.append(Measurement("m", "CPU/ANY", Layout(), batch, prompt, output, ttft, itl, "test"))
    return found


@given(st.floats(1, 50), st.floats(0.01, 2), st.floats(0.1, 5))
def test_passes_are_found_again_in_what_clients_saw(each: float, token: float, sequence: float) -> None:
    found = fit(measured(FittedSteps(each, token, sequence)))
    assert found.pass_ms == pytest.approx(each, rel=1e-3)
    assert found.token_ms == pytest.approx(token, rel=1e-3)
    assert found.sequence_ms == pytest.approx(sequence, rel=1e-3)


times = st.floats(1e-3, 1e9)


@given(
    st.lists(
        st.tuples(st.floats(1, 1e5), st.integers(1, 10**9), st.integers(1, 10**9), times, times), min_size=1
    )
)
def test_nothing_ever_costs_less_than_nothing(rows: list[tuple[float, int, int, float, float]]) -> None:
    found = fit([Measurement("m", "d", Layout(), *row, "test") for row in rows])
    assert min(found.pass_ms, found.token_ms, found.sequence_ms) > 0


def test_few_loads_tell_no_passes() -> None:
    same = measured(FittedSteps(5, 0.1, 1), LOADS[:1]) * FEWEST
    with pytest.raises(NotKnown, match="fewer than 3 loads"):
        FittedPasses(same).steps(ENGINE)
    with pytest.raises(NotKnown):
        FittedPasses(measured(FittedSteps(5, 0.1, 1))).steps(Engine(ENGINE.shape, CPU, Layout(2)))


def test_a_rehearsal_runs_on_them() -> None:
    stage = Stage(ENGINE.shape, (FittedPasses(measured(FittedSteps(5, 0.1, 1))),))
    fleet = Fleet((EngineGroup(Supply(CPU, "cpu", (1,)), Layout(), 1),))
    requests = [ServedRequest(at, at + 1, 200, 20) for at in range(20)]
    assert stage.rehearse(fleet, requests, Slo(200, 20)).good == 1.0
    assert stage.rehearse(fleet, requests, Slo(20, 20)).good == 0.0
