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

from bench.disaggregation.fitted import Course, Seen, Simulation, Times, seen
from common.auth import engine_headers
from common.units import GIB
from common.vendors import VENDORS
from inference.core.performance.device_figures import DeviceFigures
from inference.core.performance.model_shape import read_shape
from tests.fixtures.engine import OPTIONS, engine_process
from tests.fixtures.gateway import SECRET, TOKEN, serving, table
from tests.fixtures.tiny_model import shared_tiny_model


@dataclass(frozen=True)
class Load:
    """So many requests, as part of what one engine was seen to serve, and how long they are."""

    part: float
    words: int
    output_tokens: int


WORDS, OUTPUT_TOKENS = 100, 28
CALIBRATED = (Load(0.15, 160, 24), Load(0.35, 40, 36), Load(0.55, 140, 24), Load(0.75, 60, 32))
"""By these passes are fitted; none of them is validated."""
VALIDATED = tuple(Load(part, WORDS, OUTPUT_TOKENS) for part in (0.25, 0.45, 0.65))
COURSE_SECONDS = 3.0
"""All loads take turns, so long each: a machine that is shared is not equally fast for minutes."""
AT_ONCE = 8
CPU = DeviceFigures("cpu/any", "any", memory_bytes=8 * GIB)
Step = Callable[[], None]


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
        left, answers = iter(range(count)), list[Seen]()

        async def worker() -> None:
            for _ in left:
                answers.append(await self.ask(words, output_tokens))

        await asyncio.gather(*(worker() for _ in range(number)))
        return answers

    async def course(self, times: Sequence[float], load: Load) -> list[Seen]:
        """One request of the load at each time, whatever became of those before."""
        start = time.perf_counter()

        async def one(at: float) -> Seen:
            await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
            return await self.ask(load.words, load.output_tokens, at)

        return list(await asyncio.gather(*(one(at) for at in times)))


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Poisson."""
    draw, at, found = random.Random(seed), 0.0, []
    while (at := at + draw.expovariate(rate)) < seconds:
        found.append(at)
    return found


async def measure_real(seconds: float, seed: int, step: Step) -> dict[str, Any]:
    """Two engines are started; all is measured on them."""
    options = replace(OPTIONS, kv_connector=VENDORS["cpu"].kv_connector or "")
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
            capacity = await _capacity(clients[0])
            step()
            loads = await _compared(clients[0], capacity, seconds, seed, step)
            modes = await _modes(session, [engine.url for engine in engines], capacity, seconds, seed, step)
    return {"validation": _errors(loads), "loads": loads, "real_modes": modes}


async def _capacity(client: Client) -> float:
    """Requests per second of one engine that always has some."""
    start, count = time.perf_counter(), 20 * AT_ONCE
    await client.at_once(AT_ONCE, WORDS, OUTPUT_TOKENS, count)
    return count / (time.perf_counter() - start)


async def _compared(
    client: Client, capacity: float, seconds: float, seed: int, step: Step
) -> list[dict[str, float]]:
    """What clients saw at the validated loads, and what the same requests take in the simulation."""
    courses: dict[Load, list[Course]] = {load: [] for load in (*CALIBRATED, *VALIDATED)}
    for turn in range(max(1, round(seconds / COURSE_SECONDS))):
        for number, load in enumerate(sorted(courses, key=lambda load: load.part)):
            times = arrivals(load.part * capacity, COURSE_SECONDS, seed + 100 * turn + number)
            if times:
                courses[load].append(await client.course(times, load))
    step()
    config = json.loads((shared_tiny_model() / "config.json").read_text())
    simulation = Simulation(read_shape(config), CPU)
    steps = simulation.fit([courses[load] for load in CALIBRATED])
    step()
    return [_row(load, courses[load], simulation.times(steps, courses[load])) for load in VALIDATED]


def _row(load: Load, courses: Sequence[Course], simulated: Times) -> dict[str, float]:
    real = seen(courses)
    found = {
        "load": load.part,
        "requests": sum(len(course) for course in courses),
        "ttft_ms": real.ttft_ms,
        "simulated_ttft_ms": simulated.ttft_ms,
        "itl_ms": real.itl_ms,
        "simulated_itl_ms": simulated.itl_ms,
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
                answers = await client.course(arrivals(0.5 * capacity, seconds, seed + 1), VALIDATED[0])
        found[name] = {
            "ttft_p50_ms": round(statistics.median(one.ttft_ms for one in answers), 1),
            "itl_p50_ms": round(statistics.median(one.itl_ms for one in answers), 2),
            "itl_p90_ms": round(statistics.quantiles((one.itl_ms for one in answers), n=10)[8], 2),
        }
        step()
    return found


STEPS = 1 + 1 + 2 + 2
"""How often ``measure_real`` tells that it has come a step further."""
