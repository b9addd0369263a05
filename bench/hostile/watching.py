"""What is measured while the attack goes on: the other tenant's chats, passes of the scheduler, memory."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
import psutil

from bench.hostile.world import World
from control.supervisor.instance import RunFolder

CHATS_AT_ONCE = 2
CHAT_TOKENS = 16
CHAT_PAUSE_SECONDS = 0.1
POLL_SECONDS = 1.0
TELL_SECONDS = 10.0
"""So often control is asked for its metrics; it remembers the longest gap for longer."""


@dataclass
class Chats:
    """Milliseconds of each answered chat, and how many were not answered with 200."""

    milliseconds: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.milliseconds)

    @property
    def p99_ms(self) -> float:
        return statistics.quantiles(self.milliseconds, n=100)[98]


async def chat(world: World, seconds: float) -> Chats:
    """The other tenant at work: a few chats at once, one after the other."""
    chats = Chats()
    ends = time.monotonic() + seconds
    headers = {"Authorization": f"Bearer {world.victim_key}"}
    body = {
        "model": world.model,
        "messages": [{"role": "user", "content": "What is a utility?"}],
        "max_tokens": CHAT_TOKENS,
        "ignore_eos": True,
        "temperature": 0,
    }

    async def one_after_the_other(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < ends:
            start = time.perf_counter()
            try:
                async with session.post(url, json=body) as response:
                    await response.read()
                    good = response.status == 200
            except (aiohttp.ClientError, TimeoutError):
                good = False
            if good:
                chats.milliseconds.append((time.perf_counter() - start) * 1000)
            chats.failed += not good
            await asyncio.sleep(CHAT_PAUSE_SECONDS)

    url = f"{world.platform.settings.gateway_url}/chat/completions"
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        await asyncio.gather(*(one_after_the_other(session) for _ in range(CHATS_AT_ONCE)))
    return chats


@dataclass
class Watched:
    """The longest time between two passes of the scheduler, and the most memory of the two servers."""

    longest_pass_gap_seconds: float = 0.0
    rss_mib: dict[str, float] = field(default_factory=lambda: {"control": 0.0, "gateway": 0.0})
    restarts: int = 0


async def watch(
    world: World, ended: asyncio.Event, look: Callable[[], None], gap: Callable[[], float | None]
) -> Watched:
    """Look at the platform until ``ended``. ``gap`` tells the scheduler's longest gap of late in seconds, or
    None where control does not answer; what it told before the attack does not count."""
    watched, pids = Watched(), _pids(world)
    before, answered = await asyncio.to_thread(gap), time.monotonic()
    last = False
    while not last:
        last = ended.is_set()
        await asyncio.sleep(0 if last else POLL_SECONDS)
        await asyncio.to_thread(look)
        if last or time.monotonic() - answered >= TELL_SECONDS:
            found = await asyncio.to_thread(gap)
            if found is None:
                found = time.monotonic() - answered - TELL_SECONDS
            else:
                answered = time.monotonic()
            if found != before:
                watched.longest_pass_gap_seconds = max(watched.longest_pass_gap_seconds, found)
        now = _pids(world)
        watched.restarts += sum(now.get(name) not in (None, pid) for name, pid in pids.items())
        pids = {**pids, **now}
        for name, pid in now.items():
            watched.rss_mib[name] = max(watched.rss_mib[name], _rss_mib(pid))
    return watched


def _pids(world: World) -> dict[str, int]:
    state = RunFolder(world.platform.settings).read_state()
    children = state.children if state else ()
    return {child.name: child.pid for child in children if child.name in ("control", "gateway") and child.pid}


def _rss_mib(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss / 1024**2)
    except psutil.Error:
        return 0.0
