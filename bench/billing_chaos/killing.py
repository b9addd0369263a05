"""SIGKILL at random moments to whatever serves, counts and keeps the books."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

from bench.billing_chaos.postgres import PostgresServer
from control.demo.background import Platform
from control.supervisor.instance import RunFolder

MEAN_SECONDS = {"worker": 6.0, "gateway": 30.0, "control": 25.0, "engine": 75.0, "database": 30.0}
"""Between two kills of each. An engine needs half a minute to come back."""
DOWN_SECONDS = (0.5, 4.0)
"""For which a database stays away."""
_ENGINE, _CORE = "vllm.entrypoints", "EngineCore"


@dataclass
class Killer:
    """Kills ``targets`` (names of ``MEAN_SECONDS``). ``killed`` counts by name."""

    platform: Platform
    server: PostgresServer | None
    targets: tuple[str, ...]
    dice: random.Random
    killed: dict[str, int] = field(default_factory=dict)

    async def run(self, ends: asyncio.Event) -> None:
        await asyncio.gather(*(self._again_and_again(name, ends) for name in self.targets))

    async def _again_and_again(self, name: str, ends: asyncio.Event) -> None:
        dice = random.Random(self.dice.random())
        kill = self._kill_database if name == "database" else self._kill_process
        while not await _set_within(ends, dice.uniform(0.4, 1.6) * MEAN_SECONDS[name]):
            if await kill(name, dice):
                self.killed[name] = self.killed.get(name, 0) + 1

    async def _kill_process(self, name: str, dice: random.Random) -> bool:
        finders: dict[str, Callable[[], list[psutil.Process]]] = {
            "worker": self._workers,
            "gateway": lambda: self._child("gateway"),
            "control": lambda: self._child("control"),
            "engine": self._engines,
        }
        found = await asyncio.to_thread(finders[name])
        if not found:
            return False
        try:
            dice.choice(found).kill()
        except psutil.NoSuchProcess:
            return False
        return True

    async def _kill_database(self, name: str, dice: random.Random) -> bool:
        if self.server is None:
            return False
        await asyncio.to_thread(self.server.kill)
        await asyncio.sleep(dice.uniform(*DOWN_SECONDS))
        await asyncio.to_thread(self.server.start)
        return True

    def _child(self, name: str) -> list[psutil.Process]:
        state = RunFolder(self.platform.settings).read_state()
        pids = [child.pid for child in state.children if child.name == name] if state else []
        return _living(pid for pid in pids if pid)

    def _workers(self) -> list[psutil.Process]:
        return [one for gateway in self._child("gateway") for one in gateway.children()]

    def _engines(self) -> list[psutil.Process]:
        return [one for one in _living(self.platform.pids()) if _is_engine(one)]


def _living(pids: Any) -> list[psutil.Process]:
    found = []
    for pid in pids:
        try:
            found.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    return found


def _is_engine(process: psutil.Process) -> bool:
    try:
        return _CORE in process.name() or any(word.startswith(_ENGINE) for word in process.cmdline()[:4])
    except psutil.Error:
        return False


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
