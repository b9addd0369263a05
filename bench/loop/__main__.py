"""What a pass of the scheduler's loop costs: the real loop on a real store, agents that answer at once.

``python -m bench.loop --nodes 12500 --gpus-per-node 8 --running 60000 --json`` fills a pool, then measures
passes in which nothing has changed, passes in which many wait whom nothing helps, and how long it takes from
the submission of a workload to the launch call, while so many arrive each second (decision, writes and call
included). The same on a tenth of all that, for ``scale_ratio``. ``--store-url``: an empty database;
without it SQLite in a folder of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.loop.fabric import InstantFabric
from bench.loop.world import Size, apply_base, apply_running, observations, workload
from bench.scheduler_world import MODELS
from billing.core.events import UsageEvent
from billing.rejected import rejected_usage
from billing.store.ledger import PostResult
from common.clock import SYSTEM_CLOCK
from common.db import Database
from common.resources import Workload
from common.settings import Settings
from common.store.port import Put, Store
from common.store.sql import SqlStore
from common.telemetry import configure_logging
from scheduler.loop import SchedulerLoop

FULL_MODEL = MODELS[0][1]
"""All devices of this model are taken before any other: who waits asks for it."""
LIFE_SECONDS = 5.0
"""How long a workload that arrives runs."""


class UsageCount:
    """A usage sink that counts."""

    def __init__(self) -> None:
        self.events = 0

    async def post(self, events: Sequence[UsageEvent]) -> PostResult:
        self.events += len(events)
        return PostResult(len(events), 0)


class Bench:
    """One world of one size, on one store."""

    def __init__(self, store: Store, size: Size, home: Path) -> None:
        self.store = store
        self.size = size
        self.nodes = observations(size)
        self.fabric = InstantFabric(self.nodes)
        settings = Settings(home=home)
        self.loop = SchedulerLoop(
            store, self.fabric, UsageCount(), settings, SYSTEM_CLOCK, rejected=rejected_usage(settings)
        )

    async def fill(self) -> tuple[float, float]:
        """Returns the seconds of the first pass, which reads everything, and for how long in it at most
        nothing else of the process came to its turn."""
        await apply_base(self.store, self.nodes)
        now_ms = SYSTEM_CLOCK.now_ms()
        records = await apply_running(self.store, self.nodes, self.size.running, now_ms, FULL_MODEL)
        self.fabric.put_all(records)
        longest = [0.0]
        watching = asyncio.create_task(_watch_turns(longest))
        [seconds] = await self.passes(1)
        watching.cancel()
        await self.passes(3)
        return seconds, longest[0]

    async def passes(self, count: int) -> list[float]:
        """The seconds of each of so many passes."""
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            await self.loop.step()
            seconds.append(time.perf_counter() - began)
        return seconds

    async def blocked(self, waiting: int, count: int) -> list[float]:
        """Passes in which so many wait for a model that has nothing free."""
        made = [workload(f"wait-{n:05d}", n, 1 + n % 8, [FULL_MODEL]) for n in range(waiting)]
        applied = await self.store.write_all([Put(one) for one in made])
        await self.passes(3)
        seconds = await self.passes(count)
        for one in applied:
            await self.store.delete(Workload, one.resource.name, one.resource.project)
        await self.passes(2)
        return seconds

    async def arrivals(self, per_second: int, seconds: float) -> tuple[list[float], float, float]:
        """The seconds from submission to launch of each workload that arrived, how many writes of the
        scheduler each took, and how many were launched each second. Who submits does not wait for others, as
        clients of the API do not; each counts from the moment at which it was due."""
        stop, began = asyncio.Event(), time.perf_counter()
        running = asyncio.create_task(self.loop.run(stop))
        before, due = await self.store.revision(), dict[str, float]()
        submitting, count = set[asyncio.Task[None]](), max(1, round(per_second * seconds))
        for number in range(count):
            at = began + number / per_second
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            task = asyncio.create_task(self._submit(number, at, due))
            submitting.add(task)
            task.add_done_callback(submitting.discard)
        await asyncio.gather(*submitting)
        started, deadline = self.fabric.started, time.perf_counter() + 60
        while due.keys() - started.keys() and time.perf_counter() < deadline:
            await asyncio.sleep(0.05)
        launched = [started[uid] for uid in due if uid in started]
        rate = (len(launched) - 1) / (max(launched) - min(launched)) if len(launched) > 1 else 0.0
        writes = await self.store.revision() - before - len(due)
        stop.set()
        await running
        late = time.perf_counter()
        return [started.get(uid, late) - at for uid, at in due.items()], writes / len(due), rate

    async def _submit(self, number: int, at: float, due: dict[str, float]) -> None:
        """Submit a workload that is due at that moment, and ends some time later."""
        uid = (await self.store.apply(workload(f"new-{number:06d}", number))).resource.metadata.uid
        due[uid] = at
        asyncio.get_running_loop().call_later(LIFE_SECONDS, self.fabric.end, uid)


async def _watch_turns(longest: list[float]) -> None:
    """Keep in ``longest`` the longest time, in seconds, between two turns of this task, which wants one every
    two milliseconds."""
    last = time.perf_counter()
    while True:
        await asyncio.sleep(0.002)
        now = time.perf_counter()
        longest[0], last = max(longest[0], now - last), now


async def measure_size(arguments: argparse.Namespace, size: Size, url: str, home: Path) -> dict[str, Any]:
    """All figures of one size."""
    database = Database(url)
    await database.migrate()
    store = SqlStore(database)
    try:
        bench = Bench(store, size, home)
        first_seconds, longest_hold_seconds = await bench.fill()
        idle = await bench.passes(arguments.passes)
        blocked = await bench.blocked(arguments.waiting, max(3, arguments.passes // 3))
        waits, writes, rate = await bench.arrivals(arguments.arrivals, arguments.seconds)
        waits.sort()
    finally:
        await store.close()
    return {
        "first_pass_seconds": round(first_seconds, 2),
        "first_pass_longest_hold_ms": round(1000 * longest_hold_seconds),
        "idle_pass_ms": round(1000 * statistics.median(idle), 2),
        "blocked_pass_ms": round(1000 * statistics.median(blocked), 2),
        "submit_to_start_p50_ms": round(1000 * waits[len(waits) // 2], 1),
        "submit_to_start_p99_ms": round(1000 * waits[len(waits) * 99 // 100], 1),
        "arrivals_per_second": round(rate, 1),
        "store_writes_per_placement": round(writes, 2),
        "rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of both sizes; the small world is always on SQLite."""
    with tempfile.TemporaryDirectory(prefix="computility-bench-") as folder:
        home = Path(folder)
        tenth = Size(max(1, arguments.nodes // 10), arguments.gpus_per_node, arguments.running // 10)
        small = await measure_size(arguments, tenth, f"sqlite+aiosqlite:///{home / 'small.db'}", home)
        size = Size(arguments.nodes, arguments.gpus_per_node, arguments.running)
        url = arguments.store_url or f"sqlite+aiosqlite:///{home / 'large.db'}"
        large = await measure_size(arguments, size, url, home)
    ratio = large["submit_to_start_p50_ms"] / small["submit_to_start_p50_ms"]
    return {
        **large,
        "scale_ratio": round(ratio, 3),
        **{f"tenth_{name}": value for name, value in small.items()},
        "nodes": arguments.nodes,
        "gpus_per_node": arguments.gpus_per_node,
        "running": arguments.running,
        "store": url.partition("+")[0],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.loop", description=__doc__)
    parser.add_argument("--nodes", type=int, default=12_500)
    parser.add_argument("--gpus-per-node", type=int, default=8)
    parser.add_argument("--running", type=int, default=60_000)
    parser.add_argument("--waiting", type=int, default=1000, help="workloads that wait whom nothing helps")
    parser.add_argument("--arrivals", type=int, default=200, help="workloads that are to arrive each second")
    parser.add_argument("--seconds", type=float, default=20.0, help="for how long they arrive")
    parser.add_argument("--passes", type=int, default=30, help="idle passes that are measured")
    parser.add_argument("--store-url", default="", help="an empty database (default: SQLite)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    numbers = (arguments.nodes, arguments.gpus_per_node, arguments.running, arguments.arrivals)
    if min(numbers) < 1 or min(arguments.waiting, arguments.passes) < 1 or arguments.seconds <= 0:
        parser.error("all numbers must be positive")
    if arguments.running > arguments.nodes * arguments.gpus_per_node:
        parser.error("--running: more workloads than there are devices")
    configure_logging(Settings(log_level="warning"), "bench")  # only figures on standard output
    result = asyncio.run(measure(arguments))
    if arguments.json:
        print(json.dumps(result))
        return 0
    table = Table("figure", "value", title="bench.loop")
    for name, value in result.items():
        table.add_row(name, str(value))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
