"""Passes from own measurements alone: for devices of which no figures are known, such as CPUs.

A pass is taken to cost a constant, so much for each token of a prompt, and so much for each sequence that is
written. Three numbers are found in what clients saw of an engine under some steady loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.core.performance.measured import Measurement
from inference.core.performance.steps import Engine, NotKnown

FEWEST = 3
"""Measurements of an engine, at different loads, from which passes can be told."""
_LEAST_MS = 1e-3
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FittedSteps:
    """Implements ``StepTimes``."""

    pass_ms: float
    token_ms: float
    sequence_ms: float
    source: str = "measured"

    def prefill_ms(self, prompts: int, prompt_tokens: int) -> float:
        return self.pass_ms + self.token_ms * prompts * prompt_tokens

    def decode_ms(self, sequences: int, context_tokens: int) -> float:
        return self.pass_ms + self.sequence_ms * sequences

    def mixed_ms(self, prefill_tokens: int, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        return self.pass_ms + self.token_ms * prefill_tokens + self.sequence_ms * sequences


class FittedPasses:
    """Implements ``PerformanceSource`` for engines that were measured at ``FEWEST`` loads at least."""

    def __init__(self, measurements: Sequence[Measurement]) -> None:
        self._known = measurements

    def steps(self, engine: Engine) -> FittedSteps:
        names = {engine.device.name.casefold(), engine.device.device_class.casefold()}
        mine = [one for one in self._known if one.device.casefold() in names and one.layout == engine.layout]
        if len({(one.batch, one.prompt_tokens, one.output_tokens) for one in mine}) < FEWEST:
            raise NotKnown(f"of {engine.device.name} {engine.layout} fewer than {FEWEST} loads were measured")
        return fit(mine)


def fit(measurements: Sequence[Measurement]) -> FittedSteps:
    """Least squares of relative errors, no cost below 0.

    Alone, a prompt waits for one pass that reads it. With others, the mean pass reads what comes in while
    each of them writes a token.
    """
    rows: list[tuple[float, float, float]] = []
    for one in measurements:
        if one.batch < 1.5:
            rows.append((1 / one.ttft_ms, one.prompt_tokens / one.ttft_ms, 0.0))
        read = one.prompt_tokens * one.batch / max(1, one.output_tokens) if one.batch > 1 else 0.0
        rows.append((1 / one.itl_ms, read / one.itl_ms, one.batch / one.itl_ms))
    pass_ms, token_ms, sequence_ms = (max(_LEAST_MS, float(value)) for value in _not_negative(np.array(rows)))
    return FittedSteps(pass_ms, token_ms, sequence_ms)


def _not_negative(rows: _Floats) -> _Floats:
    """The least squares of ``rows @ x = 1`` with nothing below 0: what would be is left out, and the rest
    found anew."""
    kept = list(range(rows.shape[1]))
    while kept:
        found, *_ = np.linalg.lstsq(rows[:, kept], np.ones(len(rows)), rcond=None)
        if (found >= 0).all():
            values = np.zeros(rows.shape[1])
            values[kept] = found
            return values
        kept.pop(int(np.argmin(found)))
    return np.zeros(rows.shape[1])
