"""One event loop for all examples of a test, and a store in SQLite in it."""

import asyncio
from collections.abc import Iterator

import pytest

from common.clock import VirtualClock
from common.db import Database
from common.store.sql import SqlStore


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def sqlite(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStore]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('gate') / 'state.db'}")
    runner.run(database.migrate())
    yield SqlStore(database, VirtualClock())
    runner.run(database.close())
