"""kill -9 of processes that write: whatever they were told is stored stays stored."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.reports import usage_report
from billing.store import Ledger
from common.clock import VirtualClock
from common.db import Database
from common.resources import Tenant
from common.store.sql import SqlStore

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
WRITERS = 3
WRITER = """
import asyncio, sys
from billing.core.events import UsageEvent
from billing.store import Ledger
from common.clock import VirtualClock
from common.db import Database
from common.resources import Metadata, Tenant
from common.store.sql import SqlStore

async def main(url, writer):
    database = Database(url)
    await database.migrate()
    store = SqlStore(database)
    ledger = Ledger(database, store, VirtualClock())
    for n in range(100_000):
        name = f"w{writer}-{n}"
        await store.apply(Tenant(metadata=Metadata(name=name)))
        tokens = {"prompt_tokens": 5, "completion_tokens": 2}
        event = UsageEvent(name, "inference", "acme", "web", 1, 2, tokens)
        await ledger.post([event])
        print(name, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"


@pytest.fixture
def writers(database_url: str, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that start on an empty database at the same moment and report what they wrote to a file."""
    started = []
    for number in range(WRITERS):
        with (
            (tmp_path / f"told-{number}").open("wb") as told,
            (tmp_path / f"errors-{number}").open("wb") as err,
        ):
            command = [sys.executable, "-c", WRITER, database_url, str(number)]
            started.append(subprocess.Popen(command, stdout=told, stderr=err, cwd=ROOT))
    yield started
    for process in started:
        process.kill()
        process.wait()


def lines_told(folder: Path, number: int) -> list[str]:
    # A line without its end was cut by the kill.
    return [
        line.strip() for line in (folder / f"told-{number}").read_text().splitlines(True) if line[-1] == "\n"
    ]


def wait_until_all_wrote(folder: Path, writers: list[subprocess.Popen[bytes]], count: int) -> None:
    deadline = time.monotonic() + 60
    while min(len(lines_told(folder, n)) for n in range(WRITERS)) < count:
        for number, process in enumerate(writers):
            assert process.poll() is None, (folder / f"errors-{number}").read_text()
        assert time.monotonic() < deadline, "the writers do not get on"
        time.sleep(0.02)


async def test_no_acknowledged_write_is_lost(
    database_url: str, writers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    await asyncio.to_thread(wait_until_all_wrote, tmp_path, writers, 15)
    for process in writers:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    told = {name for number in range(WRITERS) for name in lines_told(tmp_path, number)}

    database = Database(database_url)
    await database.migrate()
    store = SqlStore(database)
    ledger = Ledger(database, store, VirtualClock())
    stored = {tenant.name for tenant in await store.list(Tenant)}
    assert told <= stored
    assert len(stored) <= len(told) + WRITERS, "at most the write that each was in when it was killed"
    assert [change.revision for change in await store.changes(0)] == list(range(1, len(stored) + 1))

    posted = 0
    for name in stored:
        transactions = await ledger.transactions(name)
        assert len(transactions) == 1 or (not transactions and name not in told)
        posted += len(transactions)
    total = (await usage_report(ledger)).total
    assert (total.events, total.prompt_tokens, total.completion_tokens) == (posted, 5 * posted, 2 * posted)
    assert (await ledger.trial_balance()).total_microcredits == 0
    await database.close()
