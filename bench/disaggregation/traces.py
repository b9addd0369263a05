"""Requests of public serving traces at any rate, and traces one after the other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from bench.routing.trace import BLOCK_TOKENS, Request
from bench.routing.trace import read_trace as read_mooncake
from bench.tidal_serving import read_azure
from common.errors import InvalidInput

SHIFTING = "shifting"


@dataclass(frozen=True)
class Trace:
    """A service: requests by time from 0, and what clients expect of it."""

    name: str
    requests: Sequence[Request]
    ttft_ms: float
    itl_ms: float

    @property
    def seconds(self) -> float:
        return self.requests[-1].at_seconds

    @property
    def rate(self) -> float:
        return len(self.requests) / max(1.0, self.seconds)


AZURE_LIMITS, MOONCAKE_LIMITS, SHIFTING_LIMITS = (1000.0, 40.0), (5000.0, 50.0), (2000.0, 40.0)
"""Time to the first token and between tokens, in milliseconds: of short prompts, of prompts of 12,000 tokens
in the mean, and of both in turn."""


def read_trace(path: Path) -> Trace:
    """An Azure LLM trace (CSV) or a Mooncake trace (JSONL), plain or gzip-compressed. ``InvalidInput`` where
    it is neither, or has too few requests to be a service."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        requests, limits = read_mooncake(path), MOONCAKE_LIMITS
    else:
        requests, limits = _azure(path), AZURE_LIMITS
    if len(requests) < 2 or requests[-1].at_seconds <= 0:
        raise InvalidInput(f"{path.name} has too few requests", param="trace")
    stem = name.rpartition(".")[0].removeprefix("AzureLLMInferenceTrace_").removesuffix("_trace")
    return Trace(stem, requests, *limits)


def _azure(path: Path) -> list[Request]:
    """Prompts of which nothing is known share nothing."""
    times, prompts, answers = read_azure(path)
    order = times.argsort(kind="stable")
    found, block = [], 0
    for at in order:
        tokens = max(1, int(prompts[at]))
        count = ceil(tokens / BLOCK_TOKENS)
        blocks = tuple(range(block, block + count))
        block += count
        when = float(times[at] - times[order[0]])
        found.append(Request(when, 0, blocks, tokens, max(1, int(answers[at]))))
    return found


def at_rate(
    trace: Trace, rate: float, seconds: float, seed: int, start: float = 0.0, first: int = 0
) -> list[Request]:
    """So many requests per second: as many tenants as that needs replay the trace, each beginning somewhere
    else in it, each with texts of its own. ``first``: the number of the first tenant."""
    count = max(1, ceil(rate / trace.rate))
    pace, draw = rate / trace.rate / count, random.Random(f"{trace.name}/{seed}")
    span, found = trace.seconds, []
    for tenant in range(count):
        late = draw.uniform(0, span)
        for one in trace.requests:
            at = (one.at_seconds + late) % span / pace
            if at < seconds:
                found.append(
                    Request(start + at, first + tenant, one.blocks, one.prompt_tokens, one.answer_tokens)
                )
    return sorted(found, key=lambda one: (one.at_seconds, one.tenant))
