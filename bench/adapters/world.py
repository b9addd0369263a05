"""Control, a gateway and one engine with many adapters; their weights are few, and say different things."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from openai import AsyncOpenAI

from bench.adapters.engine_log import engine_environment
from bench.adapters.traffic import ask
from common.auth import engine_headers
from tests.fixtures.adapters import RANK, make_adapter
from tests.fixtures.elastic_site import CONTROL, GATEWAY, TOKEN, Site

WEIGHTS = 16
BASE = "tiny"
TRIES = 3
TABLE_SECONDS = 5
"""Within which a gateway has a table of what control knows."""
_LOAD = re.compile(r'"load_ms": ([\d.]+)')
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Registered:
    """``right``: what each adapter says. ``seconds``: until the engine had all; processor time meanwhile."""

    names: Sequence[str]
    right: dict[str, str]
    base: str
    seconds: float
    control_cpu_seconds: float
    gateway_cpu_seconds: float
    load_ms: Sequence[float]


async def serve(on: Site, slots: int, in_memory: int) -> None:
    """One engine that answers. ``in_memory``: adapters that it keeps there; 0 = as vLLM does."""
    engine = {
        "args": ["--max-cpu-loras", str(in_memory)] if in_memory else [],
        "env": engine_environment(on.settings.home),
        "maxContextTokens": 2048,
        "maxAdapters": slots,
        "maxAdapterRank": RANK,
    }
    await on.apply("Endpoint", BASE, {"model": BASE, "engine": engine}, "search")
    await on.until(lambda status: status.get("readyReplicas") == 1, 240)


async def register(on: Site, client: AsyncOpenAI, adapters: int, say: Callable[[str], None]) -> Registered:
    """Weights by themselves first, so that it is known what each says; then all the others."""
    folder = on.settings.home / "bench-adapters"
    alone = [f"ft:{BASE}:acme:weights:{number}" for number in range(WEIGHTS)]
    async with on.control() as control:
        for seed, name in enumerate(alone):
            make_adapter(folder / f"weights-{seed}", seed)
            await _apply(control, name, folder / f"weights-{seed}")
    await _held(on, len(alone))
    await asyncio.sleep(TABLE_SECONDS)
    base = (await ask(client, BASE)).text
    said = [(await ask(client, name)).text for name in alone]
    if len({base, *said}) != WEIGHTS + 1:
        raise RuntimeError("the weights cannot be told apart by what they say")
    names = [f"ft:{BASE}:acme:many:{number}" for number in range(adapters)]
    began, before = time.time(), (cpu_seconds(on, CONTROL), cpu_seconds(on, GATEWAY))
    async with on.control() as control:
        for number, name in enumerate(names):
            path = folder / f"{number}"
            shutil.copytree(folder / f"weights-{number % WEIGHTS}", path)
            await _apply(control, name, path)
    say(f"{adapters} adapters applied after {time.time() - began:.1f} s")
    await _held(on, len(alone) + adapters)
    seconds = time.time() - began
    say(f"and on the engine after {seconds:.1f} s")
    await asyncio.sleep(TABLE_SECONDS)
    return Registered(
        names,
        {name: said[number % WEIGHTS] for number, name in enumerate(names)},
        base,
        seconds,
        cpu_seconds(on, CONTROL) - before[0],
        cpu_seconds(on, GATEWAY) - before[1],
        [float(ms) for ms in _LOAD.findall(_log(on))][WEIGHTS:],
    )


async def _apply(control: httpx.AsyncClient, name: str, path: Path) -> None:
    body = {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Adapter",
        "metadata": {"name": name.replace(":", "-"), "project": "search"},
        "spec": {"model": BASE, "servedName": name, "path": str(path), "rank": RANK},
    }
    for left in reversed(range(TRIES)):
        try:
            (await control.post("/api/v1/apply", json=body)).raise_for_status()
            return
        except httpx.TransportError:  # as where somebody stops all processes for a while
            if not left:
                raise


async def _held(on: Site, adapters: int) -> None:
    await on.until(lambda status: len(status["replicas"][0]["adapters"]) == adapters, 60 + adapters)


async def engine_ids(on: Site) -> dict[str, int]:
    """An engine numbers its adapters as they come, and lists them in that order."""
    url = (await on.status())["replicas"][0]["url"]
    async with httpx.AsyncClient(headers=engine_headers(TOKEN), timeout=60) as engine:
        cards = (await engine.get(f"{url}/v1/models")).json()["data"]
    return {card["id"]: number for number, card in enumerate((c for c in cards if c["parent"]), 1)}


def cpu_seconds(on: Site, module: str) -> float:
    """Processor time of control or the gateway so far, without the engine, which is a child of control."""
    text = Path(f"/proc/{on.processes[module].pid}/stat").read_text()
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _log(on: Site) -> str:
    return (on.settings.home / f"{CONTROL}.log").read_text(errors="replace")
