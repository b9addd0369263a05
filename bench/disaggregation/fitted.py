"""Passes found by replaying what was seen: for devices of which no figures are known, such as CPUs.

A pass is taken to cost a constant, so much for each token of a prompt that it reads, for each prompt, and for
each sequence that it writes a token of. The four numbers are those with which the simulation, given the same
requests at the same times, says what clients saw.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from inference.core.mode.batching import Job
from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.mode.rehearsal import Stage
from inference.core.mode.replay import LeastWork, Replay
from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.model_shape import ModelShape
from inference.core.performance.steps import Engine
from inference.core.performance.supply import Supply

_Floats = npt.NDArray[np.float64]
_DIFFERENCE = 0.02
"""By which part a number is changed to see what it does: passes are remembered by rounded sizes, so less
would be lost in the rounding."""


@dataclass(frozen=True)
class Seen:
    """One request as its client saw it; times in milliseconds."""

    at_seconds: float
    prompt_tokens: int
    output_tokens: int
    ttft_ms: float
    itl_ms: float


@dataclass(frozen=True)
class Times:
    """What requests saw in the middle, in milliseconds."""

    ttft_ms: float
    itl_ms: float

    @property
    def logs(self) -> _Floats:
        return np.log((self.ttft_ms, self.itl_ms))


Course = Sequence[Seen]
"""Requests that one engine served, one course of them without a pause."""


@dataclass(frozen=True)
class FittedSteps:
    """Implements ``StepTimes``, and ``PerformanceSource`` for any engine: it is asked of one kind only."""

    pass_ms: float
    token_ms: float
    prompt_ms: float
    sequence_ms: float
    source = "measured"

    def steps(self, engine: Engine) -> FittedSteps:
        return self

    def prefill_ms(self, prompts: int, prompt_tokens: int) -> float:
        return self.pass_ms + self._reading_ms(prompts * prompt_tokens, prompt_tokens)

    def decode_ms(self, sequences: int, context_tokens: int) -> float:
        return self.pass_ms + self.sequence_ms * sequences

    def mixed_ms(self, prefill_tokens: int, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        return self.decode_ms(sequences, context_tokens) + self._reading_ms(prefill_tokens, prompt_tokens)

    def _reading_ms(self, tokens: int, prompt_tokens: int) -> float:
        return self.token_ms * tokens + self.prompt_ms * tokens / prompt_tokens


BEGUN_WITH = FittedSteps(2.0, 0.03, 3.0, 0.2)
"""From where the four numbers are sought: about what a tiny model takes."""


class Simulation:
    """One engine of a kind, on which requests are played at the times at which they came."""

    def __init__(self, shape: ModelShape, device: DeviceFigures) -> None:
        self._shape = shape
        self._fleet = Fleet((EngineGroup(Supply(device, "any", (1,)), Layout(), 1),))

    def times(self, steps: FittedSteps, courses: Sequence[Course]) -> Times:
        """What the courses would have seen, as ``seen`` has it of what they saw."""
        stage = Stage(self._shape, (steps,))
        return seen([self._on(stage, course) for course in courses])

    def played(self, steps: FittedSteps, course: Course) -> Course:
        """What each request of the course would have seen, in the order in which they end."""
        return self._on(Stage(self._shape, (steps,)), course)

    def fit(self, loads: Sequence[Sequence[Course]]) -> FittedSteps:
        """Least squares of the logarithms of what was simulated by what was seen, at each load. Two loads
        of unlike prompts and answers are needed at least."""
        wanted = [seen(courses) for courses in loads]

        def errors(logarithms: _Floats) -> list[float]:
            steps = FittedSteps(*np.exp(logarithms))
            found = [self.times(steps, courses) for courses in loads]
            return [
                float(one) for got, want in zip(found, wanted, strict=True) for one in got.logs - want.logs
            ]

        found = least_squares(errors, np.log(astuple(BEGUN_WITH)), diff_step=_DIFFERENCE, loss="soft_l1")
        return FittedSteps(*np.exp(found.x))

    def _on(self, stage: Stage, course: Course) -> list[Seen]:
        done: list[Job] = []
        replay = Replay(stage.engines(self._fleet), LeastWork(), done.append)
        for number, one in enumerate(sorted(course, key=lambda one: one.at_seconds)):
            replay.until(one.at_seconds)
            replay.arrive(
                Job(number, one.at_seconds, one.prompt_tokens, one.output_tokens, one.prompt_tokens)
            )
        replay.until(float("inf"))
        return [
            Seen(job.at_seconds, job.prompt_tokens, job.output_tokens, job.ttft_ms, job.itl_ms)
            for job in done
        ]


def seen(courses: Sequence[Course]) -> Times:
    """The median of the courses' means: who takes time from the machine in some of them counts little."""
    return Times(
        statistics.median(statistics.mean(one.ttft_ms for one in course) for course in courses),
        statistics.median(statistics.mean(one.itl_ms for one in course) for course in courses),
    )
