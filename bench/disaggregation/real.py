"""Real engines on the CPU: what the simulation says against what clients see, and 1P1D against two that do
both."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from bench.disaggregation.fitted import FittedPasses
from common.auth import engine_headers
from common.units import GIB
from common.vendors import VENDORS
from inference.core.mode.batching import Job
from inference.core.mode.fleet import EngineGroup, Fleet
from inference.core.mode.rehearsal import Stage
from inference.core.mode.replay import LeastWork, Replay
from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.model_shape import read_shape
from inference.core.performance.supply import Supply
from inference.measurements import read_measurements
from tests.fixtures.engine import OPTIONS, engine_process
from tests.fixtures.gateway import SECRET, TOKEN, serving, table
from tests.fixtures.tiny_model import shared_tiny_model

CALIBRATED = ((1, 40, 24), (1, 160, 24), (3, 80, 32), (6, 120, 24), (8, 40, 32))
"""Requests at once, words of a prompt, tokens of an answer: each is measured, none of them is validated."""
VALIDATED = (0.25, 0.45, 0.65)
"""Loads, as parts of what one engine was seen to serve."""
WORDS, OUTPUT_TOKENS = 100, 28
DEVICE = "cpu/any"
CPU = DeviceFigures(DEVICE, "any", memory_bytes=8 * GIB)
Step = Callable[[], None]


@dataclass(frozen=True)
class Seen:
    """One request as its client saw it; times in milliseconds."""

    at_seconds: float
    prompt_tokens: int
    output_tokens: int
    ttft_ms: float
    itl_ms: float


class Client:
    """Asks engines, or a gateway, for completions that share nothing."""

    def __init__(self, session: aiohttp.ClientSession, url: str, headers: dict[str, str], seed: int) -> None:
        self._session, self._url, self._headers = session, url, headers
        self._draw = random.Random(seed)

    async def ask(self, words: int, output_tokens: int, at_seconds: float = 0.0) -> Seen:
        prompt = " ".join(self._draw.choice(("fox", "town", "river", "story", "day")) for _ in range(words))
        body = {
            "model": "tiny",
            "prompt": f"{self._draw.randrange(10**9)} {prompt}",
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        start, times, usage = time.perf_counter(), list[float](), dict[str, int]()
        async with self._session.post(
            f"{self._url}/v1/completions", json=body, headers=self._headers
        ) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                usage = chunk.get("usage") or usage
                if chunk.get("choices"):
                    times.append(time.perf_counter())
        made = usage["completion_tokens"]
        itl = (times[-1] - times[0]) / max(1, made - 1)
        return Seen(at_seconds, usage["prompt_tokens"], made, 1e3 * (times[0] - start), 1e3 * itl)

    async def at_once(self, number: int, words: int, output_tokens: int, count: int) -> list[Seen]:
        """So many requests at a time, ``count`` in all."""
        left, seen = iter(range(count)), list[Seen]()

        async def worker() -> None:
            for _ in left:
                seen.append(await self.ask(words, output_tokens))

        await asyncio.gather(*(worker() for _ in range(number)))
        return seen

    async def at_times(self, times: Sequence[float]) -> list[Seen]:
        """One request at each time, whatever became of those before."""
        start = time.perf_counter()

        async def one(at: float) -> Seen:
            await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
            return await self.ask(WORDS, OUTPUT_TOKENS, at)

        return list(await asyncio.gather(*(one(at) for at in times)))


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Poisson."""
    draw, at, found = random.Random(seed), 0.0, []
    while (at := at + draw.expovariate(rate)) < seconds:
        found.append(at)
    return found


async def measure_real(seconds: float, seed: int, step: Step) -> dict[str, Any]:
    """Two engines are started; all is measured on them."""
    options = replace(
        OPTIONS,
        kv_connector=VENDORS["cpu"].kv_connector or "",
        env={"VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
        args=("--distributed-executor-backend", "uni"),
    )
    with ExitStack() as stack:
        engines = [stack.enter_context(engine_process(options)) for _ in range(2)]
        for engine in engines:
            engine.wait_until_ready()
        step()
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            clients = [Client(session, engine.url, engine_headers(TOKEN), seed) for engine in engines]
            for client in clients:
                await client.at_once(2, WORDS, OUTPUT_TOKENS, 6)
            stage, capacity = await _calibrated(clients[0], step)
            loads = []
            for load in VALIDATED:
                times = arrivals(load * capacity, seconds, seed)
                loads.append(_compared(load, await clients[0].at_times(times), stage))
                step()
            modes = await _modes(session, [engine.url for engine in engines], capacity, seconds, seed, step)
    return {"validation": _errors(loads), "loads": loads, "real_modes": modes}


async def _calibrated(client: Client, step: Step) -> tuple[Stage, float]:
    """A stage whose passes come from a table of measurements, and requests per second of one engine."""
    rows, most = [], 0.0
    for number, words, output in CALIBRATED:
        start = time.perf_counter()
        seen = await client.at_once(number, words, output, 8 + 6 * number)
        most = max(most, len(seen) / (time.perf_counter() - start))
        rows.append(
            {
                "model": "tiny",
                "deviceClass": DEVICE,
                "batch": number,
                "promptTokens": round(statistics.mean(one.prompt_tokens for one in seen)),
                "outputTokens": output,
                "ttftMilliseconds": statistics.mean(one.ttft_ms for one in seen),
                "interTokenMilliseconds": statistics.mean(one.itl_ms for one in seen),
                "by": "python -m bench.disaggregation --real",
            }
        )
        step()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "measurements.yaml"
        file.write_text(yaml.safe_dump(rows))
        measured = read_measurements(file)
    config = json.loads((shared_tiny_model() / "config.json").read_text())
    return Stage(read_shape(config), (FittedPasses(measured),)), most


def _compared(load: float, seen: Sequence[Seen], stage: Stage) -> dict[str, float]:
    """What clients saw and what the same requests, at the same times, take in the simulation."""
    done: list[Job] = []
    fleet = Fleet((EngineGroup(Supply(CPU, "cpu", (1,)), Layout(), 1),))
    replay = Replay(stage.engines(fleet), LeastWork(), done.append)
    for number, one in enumerate(seen):
        replay.until(one.at_seconds)
        replay.arrive(Job(number, one.at_seconds, one.prompt_tokens, one.output_tokens, one.prompt_tokens))
    replay.until(float("inf"))
    found = {
        "load": load,
        "requests": len(seen),
        "ttft_ms": statistics.mean(one.ttft_ms for one in seen),
        "simulated_ttft_ms": statistics.mean(job.ttft_ms for job in done),
        "itl_ms": statistics.mean(one.itl_ms for one in seen),
        "simulated_itl_ms": statistics.mean(job.itl_ms for job in done),
    }
    return {name: round(value, 2) for name, value in found.items()}


def _errors(loads: Sequence[dict[str, float]]) -> dict[str, float]:
    """The largest of the loads, in per cent of what was measured."""
    return {
        f"{name}_error_percent": round(
            max(100 * abs(one[f"simulated_{name}_ms"] / one[f"{name}_ms"] - 1) for one in loads), 1
        )
        for name in ("ttft", "itl")
    }


async def _modes(
    session: aiohttp.ClientSession,
    urls: Sequence[str],
    capacity: float,
    seconds: float,
    seed: int,
    step: Step,
) -> dict[str, dict[str, float]]:
    """The same requests through a real gateway: two engines that do both, and one of each role."""
    tables = {
        "two_mixed": table([("a", urls[0]), ("b", urls[1])]),
        "one_prefill_one_decode": table([("a", urls[0], "prefill"), ("b", urls[1], "decode")]),
    }
    found = {}
    for name, routes in tables.items():
        with tempfile.TemporaryDirectory() as home:
            async with serving(Path(home), routes, connect_timeout_seconds=30.0) as front:
                client = Client(session, front.url, {"Authorization": f"Bearer {SECRET}"}, seed + 1)
                await client.at_once(2, WORDS, OUTPUT_TOKENS, 4)
                seen = await client.at_times(arrivals(0.5 * capacity, seconds, seed + 1))
        found[name] = {
            "ttft_p50_ms": round(statistics.median(one.ttft_ms for one in seen), 1),
            "itl_p50_ms": round(statistics.median(one.itl_ms for one in seen), 2),
            "itl_p90_ms": round(statistics.quantiles((one.itl_ms for one in seen), n=10)[8], 2),
        }
        step()
    return found


STEPS = 1 + len(CALIBRATED) + len(VALIDATED) + 2
"""How often ``measure_real`` tells that it has come a step further."""
