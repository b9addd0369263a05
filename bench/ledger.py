"""How fast the ledger takes usage, and how long a month's report takes over millions of events.

``python -m bench.ledger --json`` posts events of many tenants, projects, keys and models over the days of a
month, in batches, as control does with what three gateways send it: each is read from its JSON, checked,
rated and posted by ``Ledger.post``, on an SQLite file (``synchronous=FULL``) and on a PostgreSQL of its own.
The report asks for a month by tenant, project, model and day.

For ``--millions 1,3,10`` the ledger's rows are multiplied by SQL up to that size, with totals to match (what
was posted once is posted so often again, under other ids); then more is posted and asked as before.
``added_p99_ms`` is what metering adds to a request in a gateway with 16 at work: its event is made, noted in
the journal, counted for 20 tokens and made durable in the spool. How much of that is the disk's is told
beside it, measured in turns: ``fdatasync_p99_ms`` is a line written and synced by itself,
``added_in_memory_p99_ms`` the whole on a file system in memory, where a sync is nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvloop

from billing.core.events import UsageEvent
from billing.reports import usage_report
from billing.store import Ledger, UsageFilter
from billing.store.schema import METADATA
from common.clock import SYSTEM_CLOCK, parse_rfc3339
from common.db import Database
from common.ids import new_id
from common.resources import Metadata, Price
from common.resources.money import PriceItem, PriceSpec
from common.store.sql import SqlStore
from inference.core.usage import TokenCounts
from inference.gateway.books.journal import Journal
from inference.gateway.books.spool import Spool
from scheduler.translate.collector import set_world_apart
from tests.fixtures.postgres import serving_postgres

MONTH = "2026-03"
BEGIN_MS = parse_rfc3339(f"{MONTH}-01T00:00:00Z")
DAY_MS = 24 * 3600 * 1000
DAYS = 30
TENANTS, PROJECTS, KEYS, MODELS = 100, 2, 2, 3
GROUPS = ("tenant", "project", "model", "day")
REPORTS = 5
GATEWAYS = 3
AT_WORK, REQUESTS, TOKENS = 16, 2000, 20
ROUNDS, PAUSE_SECONDS, LINE_BYTES = 5, 0.01, 600
MEMORY = Path("/dev/shm")


def documents(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Events in the order of their time, spread over the month; few tenants make most of them."""
    chance = random.Random(seed)
    for number in range(count):
        tenant = min(int(chance.paretovariate(0.7)) - 1, TENANTS - 1)
        model = chance.randrange(MODELS)
        ended_ms = BEGIN_MS + number * DAYS * DAY_MS // count
        prompt, cached = chance.randrange(50, 4000), chance.randrange(0, 50)
        yield UsageEvent(
            id=f"use-{seed:02}-{number:09}",
            kind="inference",
            tenant=f"tenant-{tenant}",
            project=f"project-{tenant}-{chance.randrange(PROJECTS)}",
            key=f"key-{chance.randrange(KEYS)}",
            model=f"chat-{model}",
            model_identity=f"platform/model-{model}",
            model_shared=True,
            device_class="nvidia/H100",
            resource=f"endpoint-{model}",
            started_ms=ended_ms - 900,
            ended_ms=ended_ms,
            quantities={
                "prompt_tokens": prompt,
                "cached_tokens": cached,
                "completion_tokens": chance.randrange(1, 900),
            },
        ).to_dict()


def price_book() -> Price:
    items = [
        PriceItem(meter="prompt_tokens", microcredits_per_million=2_000_000),
        PriceItem(meter="cached_tokens", microcredits_per_million=500_000),
        *(
            PriceItem(
                meter="completion_tokens",
                model=f"platform/model-{model}",
                microcredits_per_million=6_000_000 + model,
            )
            for model in range(MODELS)
        ),
    ]
    spec = PriceSpec(effective_from="2026-01-01T00:00:00Z", items=items)
    return Price(metadata=Metadata(name="standard"), spec=spec)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Ledger, Database]]:
    """An empty ledger with a price book."""
    database = Database(url)
    await database.migrate()
    store = SqlStore(database)
    await store.apply(price_book())
    try:
        yield Ledger(database, store), database
    finally:
        await database.close()


async def post(ledger: Ledger, count: int, batch: int, seed: int) -> float:
    """Post so many events; how many a second were taken."""
    batches: list[str] = []
    events = list(documents(count, seed))
    for start in range(0, count, batch):
        batches.append(json.dumps(events[start : start + batch]))
    del events
    waiting, accepted = iter(batches), 0

    async def one_gateway() -> None:
        nonlocal accepted
        for text in waiting:
            posted = await ledger.post([UsageEvent.from_dict(one) for one in json.loads(text)])
            accepted += posted.accepted

    begun = time.perf_counter()
    await asyncio.gather(*(one_gateway() for _ in range(GATEWAYS)))
    taken = time.perf_counter() - begun
    if accepted != count:
        raise RuntimeError(f"{accepted} of {count} events were taken")
    return count / taken


async def report_seconds(ledger: Ledger, count: int) -> float:
    """How long the month's report takes; median. Raises ``RuntimeError`` where it has another sum."""
    taken = []
    where = UsageFilter(from_ms=BEGIN_MS, to_ms=BEGIN_MS + DAYS * DAY_MS)
    for _ in range(REPORTS):
        begun = time.perf_counter()
        report = await usage_report(ledger, GROUPS, where)
        taken.append(time.perf_counter() - begun)
        if report.total.events != count or sum(row.events for row in report.rows) != count:
            raise RuntimeError(f"the report has {report.total.events} of {count} events")
    return statistics.median(taken)


async def multiply(database: Database, posted: int, wanted: int) -> int:
    """Grow a ledger of ``posted`` events to about ``wanted`` with copies under other ids; its size then."""
    copies = max(0, wanted // posted - 1)
    for number in range(1, copies + 1):
        async with database.write() as connection:
            for name, key in (("usage_events", "id"), ("journal", "event_id")):
                columns = [column.name for column in METADATA.tables[name].columns]
                new = ", ".join(f"{key} || '/{number}'" if one == key else one for one in columns)
                whole = f"{key} NOT LIKE '%/%'"
                await connection.exec_driver_sql(
                    f"INSERT INTO {name} ({', '.join(columns)}) SELECT {new} FROM {name} WHERE {whole}"
                )
    async with database.write() as connection:
        for table in (name for name in METADATA.tables if name.endswith("_totals")):
            sums = [c.name for c in METADATA.tables[table].columns if not c.primary_key]
            more = ", ".join(f"{name} = {name} * {copies + 1}" for name in sums)
            await connection.exec_driver_sql(f"UPDATE {table} SET {more}")
    if not database.is_sqlite:
        async with database.engine.connect() as connection:
            alone = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await alone.execute(sa.text("VACUUM ANALYZE"))
    return posted * (copies + 1)


async def measured(url: str, count: int, batch: int, sizes: list[int]) -> dict[str, Any]:
    """Rate of posting and time of the report, at first and at each size (in events)."""
    async with opened(url) as (ledger, database):
        rate = await post(ledger, count, batch, seed=0)
        grown: list[dict[str, Any]] = []
        found = {"events_per_second": round(rate), "report_seconds": await report_seconds(ledger, count)}
        print(f"{database.url.drivername}: {found}", file=sys.stderr)
    for turn, size in enumerate(sizes, start=1):
        grown.append(await _at_size(f"{url}{turn}", count, batch, size))
    return {**found, "report_seconds": round(found["report_seconds"], 3), "growth": grown}


async def _at_size(url: str, count: int, batch: int, size: int) -> dict[str, Any]:
    async with opened(url) as (ledger, database):
        await post(ledger, count, batch, seed=0)
        posted = await multiply(database, count, size)
        rate = await post(ledger, count, batch, seed=1)
        seconds = await report_seconds(ledger, posted + count)
        found = {
            "events": posted + count,
            "events_per_second": round(rate),
            "report_seconds": round(seconds, 3),
        }
        print(f"{database.url.drivername}: {found}", file=sys.stderr)
    return found


async def added_ms(folder: Path) -> list[float]:
    """What metering adds to each of many requests that end at random."""
    spool, journal = Spool(folder), Journal(folder / "in-flight.journal", AT_WORK)
    [document] = documents(1, 0)
    names = replace(UsageEvent.from_dict(document), quantities={})
    used = {"prompt_tokens": 100, "completion_tokens": TOKENS}
    chance, taken = random.Random(1), list[float]()

    async def one_client() -> None:
        for _ in range(REQUESTS // AT_WORK):
            await asyncio.sleep(chance.uniform(0, 2 * PAUSE_SECONDS))
            begun = time.perf_counter()
            event = names.begun(new_id("use", SYSTEM_CLOCK), SYSTEM_CLOCK.now_ms(), {}, "", {})
            entry = journal.open(event)
            for token in range(TOKENS):
                entry.note(TokenCounts(prompt=100, completion=token + 1), event.ended_ms)
            await spool.append(event.ended("completed", SYSTEM_CLOCK.now_ms(), used), entry.free)
            taken.append(1000 * (time.perf_counter() - begun))

    await asyncio.gather(*(one_client() for _ in range(AT_WORK)))
    await spool.close()
    journal.close()
    return taken


def sync_ms(folder: Path) -> list[float]:
    """How long each of many lines takes that is written and synced by itself."""
    taken, line = list[float](), b"x" * LINE_BYTES
    file = os.open(folder / "lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in range(REQUESTS // AT_WORK):
        time.sleep(PAUSE_SECONDS / 10)
        begun = time.perf_counter()
        os.write(file, line)
        os.fdatasync(file)
        taken.append(1000 * (time.perf_counter() - begun))
    os.close(file)
    return taken


def added_by_metering() -> dict[str, float]:
    """The figures of requests: of several rounds, in which disk and memory take turns."""
    on_disk, in_memory, syncs = list[float](), list[float](), list[float]()
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="computility-spool-") as folder:
            syncs += sync_ms(Path(folder))
            on_disk += uvloop.run(added_ms(Path(folder)))
        if MEMORY.is_dir():
            with tempfile.TemporaryDirectory(prefix="computility-spool-", dir=MEMORY) as folder:
                in_memory += uvloop.run(added_ms(Path(folder)))
    found = {"added": on_disk, "fdatasync": syncs, "added_in_memory": in_memory}
    return {
        f"{name}_p{part}_ms": round(statistics.quantiles(times, n=100)[part - 1], 3)
        for name, times in found.items()
        for part in (50, 99)
        if times
    }


@contextmanager
def databases(wanted: int) -> Iterator[dict[str, str]]:
    """Name -> the beginning of the URL of fresh databases; a number is put behind it."""
    with tempfile.TemporaryDirectory(prefix="computility-ledger-") as folder, serving_postgres() as server:
        for number in ("", *range(1, wanted + 1)):
            server.execute(f"CREATE DATABASE ledger{number}")
        postgres = server.url.replace("postgresql://", "postgresql+asyncpg://")
        yield {"sqlite": f"sqlite+aiosqlite:///{folder}/ledger", "postgresql": f"{postgres}/ledger"}


async def measure(count: int, batch: int, sizes: list[int], only: list[str]) -> dict[str, Any]:
    """All figures. Garbage is collected as in control."""
    set_world_apart()
    with databases(len(sizes)) as urls:
        found = {name: await measured(urls[name], count, batch, sizes) for name in only}
    largest = [([one, *one["growth"]])[-1]["report_seconds"] for one in found.values()]
    return {
        "events_per_second": {name: one["events_per_second"] for name, one in found.items()},
        "report_seconds": max(largest),
        "growth": {name: one["growth"] for name, one in found.items()},
        "events": count,
        "batch": batch,
    }


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=50_000, help="posted for each figure")
    parser.add_argument("--batch", type=int, default=2000, help="events in one call")
    parser.add_argument("--millions", default="1,3,10", help="sizes to grow to; empty = none")
    parser.add_argument("--only", choices=["sqlite", "postgresql"], help="one database")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    options = parser.parse_args()
    sizes = [round(float(size) * 1e6) for size in options.millions.split(",") if size]
    only = [options.only] if options.only else ["sqlite", "postgresql"]
    found = asyncio.run(measure(options.events, options.batch, sizes, only)) | added_by_metering()
    print(json.dumps(found, indent=None if options.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
