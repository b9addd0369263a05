"""Neighbours at the gateway: what a tenant notices of a greedy one, of slow readers, of a thousand idle
connections, of a flood of bad keys.

``python -m bench.hostile.neighbours --json``: a gateway process in front of a canned engine with a few slots.
A tenant chats alone and under each pressure, in turns. ``ratio`` is its p99 under pressure over that of
alone; ``without_turns`` the same where requests go to the engine as they come
(``gateway.queued_requests_per_tenant`` 0). All share the cores: read ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from bench.gateway import process, until_answering
from bench.hostile.pressing import CHAT, PRESSURE
from common.settings import ControlSettings, GatewaySettings, Settings, child_environment
from tests.fixtures.gateway import OTHER_SECRET, SECRET, table
from tests.fixtures.ports import free_port

SLOTS, ANSWER_SECONDS = 16, 0.2
CLIENTS = 4
REST_SECONDS = 1.0
BEGIN_SECONDS = 3.0
"""Of a pressure before what it does is measured: a greedy tenant is known by then."""


@dataclass
class Measured:
    """Milliseconds of a tenant's chats, and how many were not answered with 200."""

    milliseconds: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def p99_ms(self) -> float:
        return statistics.quantiles(self.milliseconds, n=100)[98]


@dataclass(frozen=True)
class Site:
    """A gateway and its engine."""

    url: str
    pid: int


@contextmanager
def site(turns: bool) -> Iterator[Site]:
    """While entered the gateway runs, with turns at its engine or without."""
    with tempfile.TemporaryDirectory(prefix="computility-neighbours-") as home:
        port = free_port()
        settings = Settings(
            home=Path(home),
            control=ControlSettings(port=free_port()),
            gateway=GatewaySettings(port=free_port(), **({} if turns else {"queued_requests_per_tenant": 0})),
            log_level="error",
        )
        routes = table([("r0", f"http://127.0.0.1:{port}")], shared=True)
        (settings.folder("spool") / "routes.json").write_text(routes.model_dump_json())
        env = dict(child_environment(settings))
        engine = [sys.executable, "-m", "bench.hostile.slots", str(port), str(SLOTS), str(ANSWER_SECONDS)]
        with process(engine, env), process([sys.executable, "-m", "inference.gateway.main"], env):
            url = settings.gateway_url.removesuffix("/v1")
            asyncio.run(until_answering(url))
            yield Site(url, _listener(settings.gateway.port))


def _listener(port: int) -> int:
    """The process of ours that listens there."""
    for child in psutil.Process().children():
        if any(one.laddr.port == port for one in child.net_connections("tcp") if one.status == "LISTEN"):
            return child.pid
    raise SystemExit("the gateway is gone")


async def chats(url: str, seconds: float) -> Measured:
    """A few clients of one tenant, each with one chat after the other."""
    measured, ends = Measured(), time.monotonic() + seconds

    async def client(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < ends:
            began = time.perf_counter()
            async with session.post(f"{url}/v1/chat/completions", json=CHAT) as answer:
                await answer.read()
            measured.milliseconds.append((time.perf_counter() - began) * 1000)
            measured.failed += answer.status != 200

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {SECRET}"}) as session:
        await asyncio.gather(*(client(session) for _ in range(CLIENTS)))
    return measured


async def under(name: str, at: Site, seconds: float) -> tuple[Measured, dict[str, int]]:
    """The same under a pressure, and what came back to those who press."""
    command = (sys.executable, "-m", "bench.hostile.pressing", name, at.url, OTHER_SECRET)
    length = str(BEGIN_SECONDS + seconds)
    pressing = await asyncio.create_subprocess_exec(*command, length, stdout=asyncio.subprocess.PIPE)
    await asyncio.sleep(BEGIN_SECONDS)
    measured = await chats(at.url, seconds)
    told, _ = await pressing.communicate()
    return measured, json.loads(told)


async def in_turns(at: Site, names: list[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Figures by pressure: alone and pressed, one after the other."""
    alone, pressed = Measured(), {name: Measured() for name in names}
    answers: dict[str, dict[str, int]] = {}
    await chats(at.url, 2 * REST_SECONDS)
    for _ in range(rounds):
        for name in names:
            _add(alone, await chats(at.url, seconds))
            measured, answers[name] = await under(name, at, seconds)
            _add(pressed[name], measured)
            await asyncio.sleep(REST_SECONDS)
    return {
        "alone_p99_ms": round(alone.p99_ms, 1),
        "ratio": {name: round(one.p99_ms / alone.p99_ms, 2) for name, one in pressed.items()},
        "failed": sum(one.failed for one in (alone, *pressed.values())),
        "chats": {name: len(one.milliseconds) for name, one in pressed.items()},
        "answers": answers,
        "gateway_rss_mib": round(psutil.Process(at.pid).memory_info().rss / 1024**2),
    }


def _add(to: Measured, more: Measured) -> None:
    to.milliseconds += more.milliseconds
    to.failed += more.failed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.hostile.neighbours", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--pressure", choices=PRESSURE, help="only this one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    figures = {}
    for name, turns, pressures in (
        ("with_turns", True, [arguments.pressure] if arguments.pressure else list(PRESSURE)),
        ("without_turns", False, [arguments.pressure or "greedy_tenant"]),
    ):
        with site(turns) as at:
            figures[name] = asyncio.run(in_turns(at, pressures, arguments.rounds, arguments.seconds))
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, found in figures.items():
        print(f"{name}: alone p99 {found['alone_p99_ms']} ms, {found['failed']} failed")
        for pressure, ratio in found["ratio"].items():
            print(f"  {pressure:20} {ratio:6.2f} x  {found['answers'][pressure]}")


if __name__ == "__main__":
    main()
