"""What guardrails cost: processor time of a gateway for a request with and without, in turns.

``python -m bench.guardrails --json``. Two gateways stand before one canned upstream; one of them has a
Guardrail with every kind of guard on all that goes in and out. ``guardrails_cost_percent`` is the throughput
that is lost where the gateway's processor is what limits it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from common.settings import ControlSettings, GatewaySettings, Settings, child_environment
from common.wire import RouteGuardrail
from tests.fixtures.gateway import SECRET, table
from tests.fixtures.ports import free_port

CONNECTIONS, TOKENS, START_SECONDS = 8, 64, 60
_GUARDS: tuple[dict[str, Any], ...] = (
    {"kind": "personal", "action": "mask"},
    {"kind": "secrets", "action": "mask"},
    {"kind": "injection", "action": "flag"},
    {"kind": "terms", "action": "block", "terms": [f"project number {number}" for number in range(200)]},
)


def _body(stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": "a question of a few words " * 10}]
    return {"model": "tiny", "messages": messages, "max_tokens": TOKENS, "stream": stream}


@contextmanager
def _process(command: list[str], env: dict[str, str]) -> Iterator[psutil.Process]:
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(10)


def _gateway(stack: ExitStack, home: Path, upstream: str, guarded: bool) -> tuple[psutil.Process, str]:
    """A gateway's process and address."""
    settings = Settings(
        home=home,
        control=ControlSettings(port=free_port()),
        gateway=GatewaySettings(port=free_port()),
        log_level="error",
    )
    guardrails = (RouteGuardrail(name="all", guards=_GUARDS),) if guarded else ()
    routes = table([("r0", upstream)]).model_copy(update={"guardrails": guardrails})
    (settings.folder("spool") / "routes.json").write_text(routes.model_dump_json())
    command = [sys.executable, "-m", "inference.gateway.main"]
    process = stack.enter_context(_process(command, dict(child_environment(settings))))
    return process, settings.gateway_url.removesuffix("/v1")


async def _ask(url: str, stream: bool, requests: int) -> None:
    """So many requests, over some connections. Raises where one is not answered."""
    left = iter(range(requests))
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def worker() -> None:
            for _ in left:
                async with session.post(f"{url}/v1/chat/completions", json=_body(stream)) as response:
                    await response.read()
                    response.raise_for_status()

        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))


async def _until_answering(url: str) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                await _ask(url, stream=False, requests=CONNECTIONS)
                return
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)


def _cpu_seconds(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


async def _microseconds(process: psutil.Process, url: str, stream: bool, requests: int) -> float:
    began = _cpu_seconds(process)
    await _ask(url, stream, requests)
    return (_cpu_seconds(process) - began) / requests * 1e6


async def measure(rounds: int, requests: int) -> dict[str, Any]:
    """Medians over the rounds."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        port = free_port()
        env = dict(child_environment(Settings(home=Path(folder))))
        command = [sys.executable, "-m", "tests.fixtures.fake_engine", "--port", str(port)]
        stack.enter_context(_process(command, env))
        sides = {
            name: _gateway(stack, Path(folder) / name, f"http://127.0.0.1:{port}", name == "on")
            for name in ("off", "on")
        }
        spent: dict[tuple[str, bool], list[float]] = {}
        for _, url in sides.values():
            await _until_answering(url)
            await _ask(url, stream=True, requests=CONNECTIONS)
        for _ in range(rounds):
            for stream in (False, True):
                for name, (process, url) in sides.items():
                    took = await _microseconds(process, url, stream, requests)
                    spent.setdefault((name, stream), []).append(took)
    return _figures({key: statistics.median(values) for key, values in spent.items()})


def _figures(median: dict[tuple[str, bool], float]) -> dict[str, Any]:
    """Shares of throughput that are lost, and what they are of."""
    return {
        "guardrails_cost_percent": _lost(median["off", False], median["on", False]),
        "guardrails_stream_cost_percent": _lost(median["off", True], median["on", True]),
        "tokens": TOKENS,
        "microseconds": {
            f"{name}.{'stream' if stream else 'whole'}": round(value, 1)
            for (name, stream), value in sorted(median.items())
        },
    }


def _lost(off: float, on: float) -> float:
    return round(100 * (1 - off / on), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = asyncio.run(measure(options.rounds, options.requests))
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:32} {value}")


if __name__ == "__main__":
    main()
