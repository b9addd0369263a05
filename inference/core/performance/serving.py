"""From the passes of an engine to what its clients see: time to the first token, between tokens, and rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from inference.core.performance.steps import Engine, StepTimes

STEP_TOKENS = 8192
"""Tokens of prompts that vLLM reads in one pass at most (``--max-num-batched-tokens``); longer prompts are
read in parts."""
DISPATCH_MS_PER_LAYER = 0.8
"""Spent by the host on each prompt."""
LONGEST_QUEUE = 2.0
PREFILL_QUEUE = 1.8
"""A prompt's time to the first token against its own reading, for those that wait before it."""
PREFILL_SLOWER, DECODE_SLOWER = 1.1, 1.08
"""Passes of engines that only read or only write, against the sum of their kernels."""
PREFILL_BUSY, DECODE_BUSY = 0.9, 0.92
"""Part of its rate that a leg reaches when it waits for the other: for prompts of uneven arrival, and for
batches that are not always full."""
TRANSFER_BYTES_PER_SECOND = 12.5e9
"""Of each device, from a prefill to a decode engine: a network of 100 Gbit/s."""


@dataclass(frozen=True)
class Traffic:
    """What comes: mean lengths, and requests per second; None = as many as can be served."""

    prompt_tokens: int
    output_tokens: int
    requests_per_second: float | None = None

    @property
    def tokens(self) -> int:
        """Of a sequence that is complete."""
        return self.prompt_tokens + self.output_tokens

    @property
    def middle_tokens(self) -> int:
        """Of a sequence of which half the output is there: the mean over its passes."""
        return self.prompt_tokens + self.output_tokens // 2


@dataclass(frozen=True)
class Point:
    """One engine at one load. ``batch`` is how many sequences it works on at once (in each stage of its
    pipeline); ``requests_per_second`` is what it then serves. A leg has 0 for the time of
    which it has no part.
    """

    batch: int
    ttft_ms: float
    itl_ms: float
    requests_per_second: float
    source: str


def mixed_point(engine: Engine, steps: StepTimes, batch: int, traffic: Traffic) -> Point:
    """An engine that reads prompts and writes answers, with so many sequences at once.

    Passes that read a prompt alternate with those that do not, as vLLM's scheduler does under a steady load.
    Dispatching, queueing and the limit by Little's law are those that ``aiconfigurator-core`` calibrated
    for vLLM. Raises ``NotKnown``.
    """
    prompt, output = traffic.prompt_tokens, traffic.output_tokens
    write_ms = steps.decode_ms(batch, traffic.middle_tokens)
    dispatch_ms = DISPATCH_MS_PER_LAYER * engine.shape.layers
    if batch == 1:
        read_ms = steps.prefill_ms(1, prompt)
        ttft_ms, itl_ms = read_ms + dispatch_ms, write_ms
        total_ms = read_ms + (output - 1) * write_ms
    else:
        together = min(prompt * math.ceil(batch / output), STEP_TOKENS)
        reading = math.ceil(prompt * batch / together)
        writing = max(0, output - reading)
        beside = max(1, batch - math.ceil(together / prompt))
        read_ms = steps.mixed_ms(together, prompt, beside, traffic.middle_tokens)
        total_ms = reading * read_ms + writing * write_ms
        itl_ms = total_ms / (reading + writing)
        queue = min(1.0 + math.log2(batch) / 8.0, LONGEST_QUEUE)
        ttft_ms = queue * (read_ms * math.ceil(prompt / together) + dispatch_ms)
    rate = 1e3 * batch / max(total_ms, ttft_ms + itl_ms * (output - 1))
    return Point(batch, ttft_ms, itl_ms, rate * engine.layout.pipeline, steps.source)


def prefill_point(engine: Engine, steps: StepTimes, batch: int, traffic: Traffic) -> Point:
    """An engine that only reads prompts, so many together, and hands their KV cache over.

    The time to the first token has waiting for other prompts in it, and the transfer. Raises ``NotKnown``.
    """
    read_ms = PREFILL_SLOWER * steps.prefill_ms(batch, traffic.prompt_tokens)
    moved = engine.shape.kv_bytes(traffic.prompt_tokens, engine.layout.tensor) / engine.layout.pipeline
    ttft_ms = PREFILL_QUEUE * read_ms + 1e3 * moved / TRANSFER_BYTES_PER_SECOND
    return Point(batch, ttft_ms, 0.0, 1e3 * batch / read_ms * engine.layout.pipeline, steps.source)


def decode_point(engine: Engine, steps: StepTimes, batch: int, traffic: Traffic) -> Point:
    """An engine that only writes answers, so many at once. Raises ``NotKnown``."""
    itl_ms = DECODE_SLOWER * steps.decode_ms(batch, traffic.middle_tokens)
    rate = 1e3 * batch / (itl_ms * max(1, traffic.output_tokens - 1))
    return Point(batch, 0.0, itl_ms, rate * engine.layout.pipeline, steps.source)
