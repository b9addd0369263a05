"""Turn ``"auto"`` hyper-parameters into numbers. Pure functions of the number of examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from common.errors import InvalidInput

Auto = Literal["auto"]

TARGET_EPOCHS = 3
MAX_AUTO_EPOCHS = 25
MIN_EXAMPLES_SEEN = 100
MAX_EXAMPLES_SEEN = 25_000
BASE_LEARNING_RATE = 2e-4

_EXAMPLES_PER_BATCH_ROW = 64
_LEAST = 1e-6
"""Of a multiplier: below it nothing is learned, and far below it the rate is no number above 0."""
_MIN_AUTO_BATCH, _MAX_AUTO_BATCH = 4, 32


@dataclass(frozen=True)
class Hyperparameters:
    """What a job is trained with. The learning rate is ``BASE_LEARNING_RATE`` x multiplier."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float

    @property
    def learning_rate(self) -> float:
        return BASE_LEARNING_RATE * self.learning_rate_multiplier

    def total_steps(self, examples: int) -> int:
        """Optimizer steps for ``examples`` rows; the last batch of an epoch may be smaller."""
        return math.ceil(examples / self.batch_size) * self.n_epochs


def resolve(
    examples: int,
    n_epochs: int | Auto = "auto",
    batch_size: int | Auto = "auto",
    learning_rate_multiplier: float | Auto = "auto",
) -> Hyperparameters:
    """Numbers for a dataset of ``examples`` rows. Raises ``InvalidInput`` naming a value out of range."""
    if examples < 1:
        raise InvalidInput("the training file has no example", param="training_file")
    return Hyperparameters(
        n_epochs=_epochs(examples, n_epochs),
        batch_size=_batch_size(examples, batch_size),
        learning_rate_multiplier=_multiplier(learning_rate_multiplier),
    )


def _epochs(examples: int, asked: int | Auto) -> int:
    """Three, or as many as show at least 100 and at most 25 000 examples."""
    if asked != "auto":
        return _checked_integer("n_epochs", asked, 1, 50)
    if examples * TARGET_EPOCHS < MIN_EXAMPLES_SEEN:
        return min(MAX_AUTO_EPOCHS, math.ceil(MIN_EXAMPLES_SEEN / examples))
    if examples * TARGET_EPOCHS > MAX_EXAMPLES_SEEN:
        return max(1, MAX_EXAMPLES_SEEN // examples)
    return TARGET_EPOCHS


def _batch_size(examples: int, asked: int | Auto) -> int:
    if asked != "auto":
        return _checked_integer("batch_size", asked, 1, 256)
    return min(examples, max(_MIN_AUTO_BATCH, min(_MAX_AUTO_BATCH, examples // _EXAMPLES_PER_BATCH_ROW)))


def _multiplier(asked: float | Auto) -> float:
    if asked == "auto":
        return 1.0
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not (_LEAST <= asked <= 1000):
        raise _wrong("learning_rate_multiplier", 'must be "auto" or a number from 0.000001 to 1000')
    return float(asked)


def _checked_integer(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _wrong(name, f'must be "auto" or an integer from {low} to {high}')
    return value


def _wrong(name: str, message: str) -> InvalidInput:
    return InvalidInput(f"hyperparameters.{name} {message}", param=f"hyperparameters.{name}")
