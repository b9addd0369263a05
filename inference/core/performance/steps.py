"""How long one pass of an engine takes: what every source of performance figures answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.model_shape import ModelShape


class NotKnown(Exception):
    """A source has no figure for what it was asked; the next one is asked then."""


@dataclass(frozen=True)
class Engine:
    """A model on so many devices of one model."""

    shape: ModelShape
    device: DeviceFigures
    layout: Layout


class StepTimes(Protocol):
    """Passes of one engine, in milliseconds. Each method raises ``NotKnown`` where there is no figure."""

    @property
    def source(self) -> str:
        """Where the figures come from."""
        ...

    def prefill_ms(self, prompts: int, prompt_tokens: int) -> float:
        """Read so many prompts of this length together."""
        ...

    def decode_ms(self, sequences: int, context_tokens: int) -> float:
        """Add a token to each of so many sequences that are this long."""
        ...

    def mixed_ms(self, prefill_tokens: int, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        """Read ``prefill_tokens`` of prompts of a length, and add a token to each of ``sequences``."""
        ...


class PerformanceSource(Protocol):
    """Figures of engines: measured, from a library, or worked out."""

    def steps(self, engine: Engine) -> StepTimes:
        """Raises ``NotKnown`` where it cannot tell of such an engine."""
        ...
