"""Passes that are found by replaying what clients saw."""

import random
from dataclasses import astuple, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.disaggregation.fitted import Course, FittedSteps, Seen, Simulation, Times, seen
from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.mode.rehearsal import Stage
from inference.core.mode.traffic import ServedRequest
from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.options import Slo
from inference.core.performance.supply import Supply
from tests.fixtures.performance_scene import LLAMA_8B, shape

CPU = DeviceFigures("cpu/any", "any", memory_bytes=64 * 2**30)
SIMULATION = Simulation(shape(LLAMA_8B), CPU)
LOADS = ((2.0, 600, 12), (4.0, 100, 30), (8.0, 300, 10), (10.0, 60, 24))
"""Requests per second, tokens of prompts, tokens of answers."""


def asked(rate: float, prompt_tokens: int, output_tokens: int, seed: int) -> Course:
    """Requests of which nobody has seen anything yet."""
    draw, at, found = random.Random(seed), 0.0, list[Seen]()
    while (at := at + draw.expovariate(rate)) < 3.0:
        found.append(Seen(at, round(prompt_tokens * draw.uniform(0.8, 1.2)), output_tokens, 0.0, 0.0))
    return found


def served(truth: FittedSteps, course: Course) -> Course:
    """What clients of an engine with such passes see of it."""
    return SIMULATION.played(truth, course)


@settings(max_examples=4)
@given(st.floats(2, 12), st.floats(0.01, 0.1), st.floats(1, 8), st.floats(0.1, 1))
def test_what_was_found_says_what_clients_see_at_other_loads(
    each: float, token: float, prompt: float, sequence: float
) -> None:
    truth = FittedSteps(each, token, prompt, sequence)
    found = SIMULATION.fit([[served(truth, asked(*load, seed=1))] for load in LOADS])
    other = asked(6.0, 200, 20, seed=2)
    assert astuple(SIMULATION.times(found, [other])) == pytest.approx(
        astuple(seen([served(truth, other)])), rel=0.1
    )


def test_a_course_in_which_the_machine_was_slow_counts_little() -> None:
    truth = FittedSteps(5.0, 0.05, 3.0, 0.3)

    def courses(load: tuple[float, int, int]) -> list[Course]:
        usual = [served(truth, asked(*load, seed=seed)) for seed in range(3)]
        slow = [replace(one, ttft_ms=9 * one.ttft_ms, itl_ms=9 * one.itl_ms) for one in usual[0]]
        return [slow, *usual[1:]]

    found = SIMULATION.fit([courses(load) for load in LOADS])
    other = asked(6.0, 200, 20, seed=2)
    assert astuple(SIMULATION.times(found, [other])) == pytest.approx(
        astuple(seen([served(truth, other)])), rel=0.2
    )


def test_what_was_seen_is_the_median_of_the_means() -> None:
    courses = [
        [Seen(0.0, 1, 2, ttft, ttft / 10), Seen(1.0, 1, 2, ttft + 2, ttft / 10)] for ttft in (1, 5, 900)
    ]
    assert seen(courses) == Times(6.0, 0.5)


def test_a_rehearsal_runs_on_them() -> None:
    stage = Stage(shape(LLAMA_8B), (FittedSteps(5, 0.1, 1, 1),))
    fleet = Fleet((EngineGroup(Supply(CPU, "cpu", (1,)), Layout(), 1),))
    requests = [ServedRequest(at, at + 1, 200, 20) for at in range(20)]
    assert stage.rehearse(fleet, requests, Slo(200, 20)).good == 1.0
    assert stage.rehearse(fleet, requests, Slo(20, 20)).good == 0.0
