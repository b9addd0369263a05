"""Real engines on the CPU behind each router: vllm-router with its policies, and the gateway."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from bench.gateway import process
from bench.routing.trace import Request
from common.auth import engine_key
from common.errors import SetupError
from tests.fixtures.engine import OPTIONS, engine_process
from tests.fixtures.gateway import SECRET, TOKEN, serving, table
from tests.fixtures.ports import free_port

PEER = ("random", "round_robin", "cache_aware")
"""Policies of vllm-router."""
OURS = "ours"
BLOCK_TOKENS = 32
"""A block of the trace (512 tokens) is so many here, and so large are the engines' own."""
BLOCK_WORDS = 24
"""A word of them is 1 to 1.4 tokens."""
MOST_BLOCKS = 48
"""Longer prompts are left out: the tiny model has room for 2,048 tokens."""
CACHE_BLOCKS = 1500
"""That an engine has room for: three of them hold most of what 600 requests ask for once, not three times."""
ANSWER_TOKENS = 12
START_SECONDS = 60.0
WORDS = ("fox", "town", "river", "story", "day", "house", "bird", "wind")
Step = Callable[[], None]


@dataclass(frozen=True)
class Seen:
    """One request as its client saw it. ``ttft_ms`` is None where it was refused."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    ttft_ms: float | None = None


def chosen(trace: Sequence[Request], count: int, seed: int) -> list[Request]:
    """So many requests of conversations that were drawn from all of it and that the tiny model has room for,
    by time. A conversation is what shares its second block: the first is everybody's."""
    talks: dict[int, list[Request]] = {}
    for one in trace:
        if len(one.blocks) <= MOST_BLOCKS:
            talks.setdefault(one.blocks[min(1, len(one.blocks) - 1)], []).append(one)
    drawn = list(talks.values())
    random.Random(seed).shuffle(drawn)
    found = [one for talk in drawn for one in talk][:count]
    return sorted(found, key=lambda request: request.at_seconds)


def prompt_of(request: Request, salt: str) -> str:
    """Equal blocks are equal texts, for one ``salt``."""
    return " ".join(" ".join(_words(f"{salt}/{block}")) for block in request.blocks)


def _words(seed: str) -> Iterator[str]:
    draw = random.Random(seed)
    return (draw.choice(WORDS) for _ in range(BLOCK_WORDS))


async def measure_real(
    trace: Sequence[Request], engines: int, per_second: float, seed: int, router: str, step: Step
) -> dict[str, Any]:
    """All policies on the same requests at the same times. Raises ``SetupError`` where vllm-router is not
    there."""
    command = shutil.which(router)
    if command is None:
        raise SetupError(
            f"{router} is not there: pip install vllm-router in an environment of its own, and name its "
            "program with --router"
        )
    draw = random.Random(seed)
    times, at = [], 0.0
    for _ in trace:
        at += draw.expovariate(per_second)
        times.append(at)
    args = ("--block-size", str(BLOCK_TOKENS), "--num-gpu-blocks-override", str(CACHE_BLOCKS))
    options = replace(OPTIONS, max_adapters=0, args=args)
    with ExitStack() as stack:
        started = [stack.enter_context(engine_process(options)) for _ in range(engines)]
        for engine in started:
            engine.wait_until_ready()
        urls = [engine.url for engine in started]
        policies = {}
        for name in (*PEER, OURS):
            async with _behind(name, command, urls) as (url, key):
                client = Client(url, key)
                await asyncio.gather(*(client.ask(f"hello {name} {n}") for n in range(2 * engines)))
                policies[name] = figures(await client.at_times(trace, times, name, step))
    return policies


class Client:
    """Asks one router for completions."""

    def __init__(self, url: str, key: str) -> None:
        self._url = f"{url}/v1/completions"
        self._headers = {"Authorization": f"Bearer {key}"}

    async def ask(self, prompt: str) -> Seen:
        """Whatever is not answered with text counts as refused."""
        body = {
            "model": "tiny",
            "prompt": prompt,
            "max_tokens": ANSWER_TOKENS,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        start, first, usage = time.perf_counter(), None, dict[str, Any]()
        async with aiohttp.request("POST", self._url, json=body, headers=self._headers) as answer:
            async for line in answer.content:
                if answer.status != 200 or not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                usage = chunk.get("usage") or usage
                if chunk.get("choices") and first is None:
                    first = time.perf_counter()
        if first is None or not usage:
            return Seen()
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Seen(usage["prompt_tokens"], cached, 1000 * (first - start))

    async def at_times(
        self, requests: Sequence[Request], times: Sequence[float], salt: str, step: Step
    ) -> list[Seen]:
        """One request at each time, whatever became of those before."""
        start = time.perf_counter()

        async def one(request: Request, at: float) -> Seen:
            await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
            seen = await self.ask(prompt_of(request, salt))
            step()
            return seen

        return list(await asyncio.gather(*map(one, requests, times)))


def figures(seen: Sequence[Seen]) -> dict[str, Any]:
    """``hit_rate``: tokens of prompts that the engines had in their caches, of all."""
    answered = sorted(one.ttft_ms for one in seen if one.ttft_ms is not None)
    cuts = statistics.quantiles(answered, n=100) if len(answered) > 1 else [0.0] * 99
    tokens = sum(one.prompt_tokens for one in seen)
    return {
        "hit_rate": round(sum(one.cached_tokens for one in seen) / max(1, tokens), 4),
        "ttft_p50_ms": round(cuts[49], 1),
        "ttft_p99_ms": round(cuts[98], 1),
        "rejects": len(seen) - len(answered),
    }


@asynccontextmanager
async def _behind(name: str, command: str, urls: Sequence[str]) -> AsyncIterator[tuple[str, str]]:
    """Where to ask, and with which key."""
    if name != OURS:
        with _vllm_router(command, name, urls) as url:
            await _ready(url)
            yield url, engine_key(TOKEN)
        return
    routes = table([(f"engine-{number}", url) for number, url in enumerate(urls)])
    with tempfile.TemporaryDirectory() as home:
        async with serving(Path(home), routes, connect_timeout_seconds=30.0) as front:
            yield front.url, SECRET


@contextmanager
def _vllm_router(command: str, policy: str, urls: Sequence[str]) -> Iterator[str]:
    port = str(free_port())
    words = [command, "--host", "127.0.0.1", "--port", port, "--policy", policy, "--worker-urls", *urls]
    with process([*words, "--prometheus-port", str(free_port())], dict(os.environ)):
        yield f"http://127.0.0.1:{port}"


async def _ready(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            async with aiohttp.request("GET", f"{url}/health") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.2)
    raise SetupError(f"the router did not start within {START_SECONDS:.0f} s")
