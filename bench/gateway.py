"""What the gateway costs: one canned upstream, straight, through a pass-through, and through the gateway.

``python -m bench.gateway --json`` prints requests per second and latencies of plain and streamed requests,
over 32 connections. LiteLLM's proxy is measured too where it is installed. All processes share the cores,
so that only the differences mean something.

``--against vllm-router`` measures with wrk what a fast load finds, beside a router that does not meter: it is
installed into a folder of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from bench.gateway_against import PEERS
from bench.gateway_against import measure as measure_against
from common.settings import ControlSettings, GatewaySettings, Settings, child_environment
from tests.fixtures.gateway import SECRET, table
from tests.fixtures.ports import free_port

CONNECTIONS = 32
TOKENS = 64
START_SECONDS = 60


def _body(stream: bool) -> dict[str, Any]:
    content = "a question of a few words " * 10
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": TOKENS,
        "stream": stream,
    }


async def measure(url: str, stream: bool, requests: int) -> dict[str, float]:
    """Requests per second, and milliseconds to the first byte and to the end."""
    first: list[float] = []
    whole: list[float] = []
    left = iter(range(requests))
    headers = {"Authorization": f"Bearer {SECRET}"}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def worker() -> None:
            for _ in left:
                start = time.perf_counter()
                async with session.post(f"{url}/v1/chat/completions", json=_body(stream)) as response:
                    await response.content.readany()
                    first.append(time.perf_counter() - start)
                    await response.read()
                    assert response.status == 200
                whole.append(time.perf_counter() - start)

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
        seconds = time.perf_counter() - began
    return {
        "requests_per_second": round(requests / seconds, 1),
        "first_byte_p50_ms": round(statistics.median(first) * 1000, 2),
        "whole_p50_ms": round(statistics.median(whole) * 1000, 2),
        "whole_p99_ms": round(statistics.quantiles(whole, n=100)[98] * 1000, 2),
    }


@contextmanager
def process(command: list[str], env: dict[str, str]) -> Iterator[None]:
    """A child that is gone afterwards."""
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


async def until_answering(url: str) -> None:
    """Return when a chat request is answered."""
    deadline = time.monotonic() + START_SECONDS
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {SECRET}"}) as session:
        while time.monotonic() < deadline:
            try:
                async with session.post(f"{url}/v1/chat/completions", json=_body(False)) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    raise SystemExit(f"nothing answered at {url} within {START_SECONDS} s")


async def _pass_through(port: int, upstream: str) -> None:
    """The least that a proxy can do: bytes in, bytes out."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            headers = {"Content-Type": "application/json"}
            async with session.post(upstream + request.path, data=body, headers=headers) as answer:
                response = web.StreamResponse(headers={"Content-Type": answer.headers["Content-Type"]})
                await response.prepare(request)
                async for data in answer.content.iter_any():
                    await response.write(data)
                return response

        app = web.Application()
        app.router.add_post("/v1/chat/completions", forward)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


def _start_all(stack: ExitStack, home: Path) -> dict[str, str]:
    """Start upstream and contenders; their URLs by name."""
    env = dict(child_environment(Settings(home=home)))
    upstream, passing = free_port(), free_port()
    upstream_url = f"http://127.0.0.1:{upstream}"
    stack.enter_context(
        process([sys.executable, "-m", "tests.fixtures.fake_engine", "--port", str(upstream)], env)
    )
    command = [sys.executable, "-m", "bench.gateway", "--pass-through", str(passing), upstream_url]
    stack.enter_context(process(command, env))
    settings = Settings(
        home=home,
        control=ControlSettings(port=free_port()),
        gateway=GatewaySettings(port=free_port()),
        log_level="error",
    )
    routes = table([("r0", upstream_url)])
    (settings.folder("spool") / "routes.json").write_text(routes.model_dump_json())
    gateway = [sys.executable, "-m", "inference.gateway.main"]
    stack.enter_context(process(gateway, child_environment(settings)))
    urls = {
        "straight": upstream_url,
        "pass-through": f"http://127.0.0.1:{passing}",
        "computility": settings.gateway_url.removesuffix("/v1"),
    }
    if importlib.util.find_spec("litellm") is not None:
        urls["litellm"] = _start_litellm(stack, home, upstream_url, env)
    return urls


def _start_litellm(stack: ExitStack, home: Path, upstream_url: str, env: dict[str, str]) -> str:
    port, config = free_port(), home / "litellm.yaml"
    parameters = {"model": "openai/tiny", "api_base": f"{upstream_url}/v1", "api_key": "x"}
    content = {
        "model_list": [{"model_name": "tiny", "litellm_params": parameters}],
        "general_settings": {"master_key": SECRET},
    }
    config.write_text(json.dumps(content))
    command = ["litellm", "--config", os.fspath(config), "--host", "127.0.0.1", "--port", str(port)]
    stack.enter_context(process(command, env))
    return f"http://127.0.0.1:{port}"


async def run(requests: int) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by contender and kind of request."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="computility-bench-")))
        for name, url in _start_all(stack, home).items():
            await until_answering(url)
            await measure(url, True, CONNECTIONS)
            plain, stream = await measure(url, False, requests), await measure(url, True, requests)
            figures[name] = {"plain": plain, "stream": stream}
    return figures


def _print_table(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    for name, kinds in figures.items():
        for kind, numbers in kinds.items():
            print(f"{name:14} {kind:7}", "  ".join(f"{key}={value}" for key, value in numbers.items()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--requests", type=int, default=1000, help="per contender and kind of request")
    parser.add_argument("--against", choices=PEERS, help="measure with wrk, beside this router")
    parser.add_argument("--rounds", type=int, default=4, help="of each contender with --against")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one round with --against")
    parser.add_argument("--pass-through", nargs=2, metavar=("PORT", "UPSTREAM"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pass_through:
        port, upstream = arguments.pass_through
        asyncio.run(_pass_through(int(port), upstream))
        return
    if arguments.against:
        told = measure_against([arguments.against], arguments.rounds, arguments.seconds)
        print(json.dumps(told, indent=None if arguments.json else 2))
        return
    figures = asyncio.run(run(arguments.requests))
    if arguments.json:
        print(json.dumps({"connections": CONNECTIONS, "tokens": TOKENS, "figures": figures}, indent=2))
    else:
        _print_table(figures)


if __name__ == "__main__":
    main()
