"""The serving load of the tidal bench: an hour of a public trace, stretched over days by a published day
curve."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import InvalidInput
from scheduler.sim.jobs import SECOND_MS
from scheduler.sim.serving import Load
from scheduler.sim.tables import header, open_text, rows

Floats = npt.NDArray[np.float64]
HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS

_MORNING = (940, 893, 572, 513, 368, 342, 194, 153, 178, 416, 879, 1287)
_EVENING = (1744, 1501, 1796, 1401, 1476, 1356, 1181, 1568, 1353, 1175, 1129, 1026)
DAY_CURVE = (*_MORNING, *_EVENING)
"""Requests per hour of the day, mean of the 61 days of BurstGPT's first file (HPMLL/BurstGPT, CC-BY-4.0)."""

PREFILL_TOKENS_PER_SECOND = 10_000.0
"""Of one accelerator: 312 dense BF16 TFLOPS (A100) at half of its peak, 16 GFLOP per token of an 8B model."""
DECODE_TOKENS_PER_SECOND = 2_500.0
"""Of the same in a full batch: what vLLM's continuous batching reaches for 8B models on an A100, roughly."""
TENANTS = 16
"""The load is the sum of so many copies of the hour, each shifted at random: a service has many users at
once."""
DAY_SIGMA = 0.1
"""Days differ from each other by a log-normal factor, at noon; between two noons it is straight."""


@dataclass(frozen=True)
class Hour:
    """One hour of requests, by seconds: device-seconds of work, and requests."""

    work: Floats
    requests: Floats

    @property
    def work_per_request(self) -> float:
        return float(self.work.sum() / self.requests.sum())


def read_hour(path: Path) -> Hour:
    """An Azure LLM trace (CSV) or a Mooncake trace (JSONL), plain or gzip-compressed.

    ``InvalidInput`` where it is neither, or holds no requests.
    """
    name = path.name.removesuffix(".gz")
    times, prompts, answers = _mooncake(path) if name.endswith(".jsonl") else read_azure(path)
    if not len(times):
        raise InvalidInput(f"{path.name} has no requests", param="serving")
    work = prompts / PREFILL_TOKENS_PER_SECOND + answers / DECODE_TOKENS_PER_SECOND
    seconds = (times - times.min()).astype(int) % HOUR_SECONDS
    by_second = np.zeros((2, HOUR_SECONDS))
    np.add.at(by_second[0], seconds, work)
    np.add.at(by_second[1], seconds, 1.0)
    return Hour(by_second[0], by_second[1])


def read_azure(path: Path) -> tuple[Floats, Floats, Floats]:
    """Times in seconds, and tokens of prompts and answers. ``InvalidInput`` where it is no such trace."""
    columns = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
    if not set(columns) <= set(header(path)):
        raise InvalidInput(f"{path.name} is neither an Azure nor a Mooncake trace", param="serving")
    found: list[tuple[float, float, float]] = []
    for row in rows(path, columns):
        try:
            at = datetime.fromisoformat(row.text("TIMESTAMP")[:26] + "+00:00").timestamp()
        except ValueError:
            raise row.wrong("TIMESTAMP", "is no time") from None
        found.append((at, row.number("ContextTokens"), row.number("GeneratedTokens")))
    table = np.array(found, dtype=float).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _mooncake(path: Path) -> tuple[Floats, Floats, Floats]:
    """Requests come in batches of one time stamp, about 3 s apart: they are spread until the next one."""
    found: list[tuple[float, float, float]] = []
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                one = json.loads(line)
                found.append((one["timestamp"] / SECOND_MS, one["input_length"], one["output_length"]))
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidInput(f"{path.name}, line {number}: {error}", param=f"line {number}") from None
    table = np.array(sorted(found), dtype=float).reshape(-1, 3)
    times, first, counts = np.unique(table[:, 0], return_index=True, return_counts=True)
    gaps = np.diff(times, append=times[-1:] + 3.0)
    within = np.arange(len(table)) - np.repeat(first, counts)
    spread = within / np.repeat(counts, counts) * np.repeat(gaps, counts)
    return table[:, 0] + spread, table[:, 1], table[:, 2]


def weeks_of(hour: Hour, days: int, start_ms: int, seed: int) -> Load:
    """``days`` of load whose busiest hour of an average day has 1.0 device-seconds of work per second."""
    draw = np.random.default_rng(seed)
    noons = (np.arange(days) + 0.5) * DAY_SECONDS
    factors = np.exp(draw.normal(0.0, DAY_SIGMA, days))
    curve = _day_curve(days) * np.interp(np.arange(days * DAY_SECONDS), noons, factors)
    work, requests = np.empty(days * DAY_SECONDS), np.empty(days * DAY_SECONDS)
    for number in range(days * 24):
        span = slice(number * HOUR_SECONDS, (number + 1) * HOUR_SECONDS)
        shifts = draw.integers(0, HOUR_SECONDS, TENANTS)
        work[span] = sum(np.roll(hour.work, shift) for shift in shifts)
        requests[span] = sum(np.roll(hour.requests, shift) for shift in shifts)
    scale = curve / (hour.work.mean() * TENANTS)
    return Load(start_ms, work * scale, requests * scale)


def _day_curve(days: int) -> Floats:
    """Per second, 1.0 in the busiest hour; hours stand for their middle, between them it is straight."""
    hours = np.array(DAY_CURVE, dtype=float) / max(DAY_CURVE)
    middle = np.arange(24) * HOUR_SECONDS + HOUR_SECONDS / 2
    one = np.interp(np.arange(DAY_SECONDS), middle, hours, period=DAY_SECONDS)
    return np.tile(one, days)


def scaled(load: Load, factor: float) -> Load:
    """So many times the work and the requests."""
    return Load(load.start_ms, load.work * factor, load.requests * factor)
