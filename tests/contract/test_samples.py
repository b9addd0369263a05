"""What every log of samples must do: the same tests on memory, SQLite and PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.db import Database
from common.store.samples import MemorySampleLog, SampleLog, SqlSampleLog


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SampleLog]:
    if request.param == "memory":
        yield MemorySampleLog()
        return
    sqlite_url = f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"
    database = Database(
        request.getfixturevalue("postgres_url") if request.param == "postgres" else sqlite_url
    )
    await database.migrate()
    yield SqlSampleLog(database)
    await database.close()


async def test_values_come_back_in_the_order_of_time(log: SampleLog) -> None:
    for at_ms, value in ((3, 0.1), (1, 2.5), (2_000_000_000_000, 1e-9)):
        await log.add("load/nvidia", at_ms, value)
    assert list(await log.since("load/nvidia", 0)) == [(1, 2.5), (3, 0.1), (2_000_000_000_000, 1e-9)]
    assert list(await log.since("load/nvidia", 3)) == [(3, 0.1), (2_000_000_000_000, 1e-9)]


async def test_series_are_apart_and_one_that_nobody_wrote_is_empty(log: SampleLog) -> None:
    await log.add("a", 1, 1.0)
    await log.add("b", 1, 2.0)
    assert list(await log.since("b", 0)) == [(1, 2.0)]
    assert list(await log.since("c", 0)) == []


async def test_a_value_that_is_known_stays(log: SampleLog) -> None:
    await log.add("a", 1, 1.0)
    await log.add("a", 1, 9.0)
    assert list(await log.since("a", 0)) == [(1, 1.0)]


async def test_what_is_old_goes_from_all_series(log: SampleLog) -> None:
    for series in ("a", "b"):
        for at_ms in (1, 2, 3):
            await log.add(series, at_ms, float(at_ms))
    await log.forget_before(3)
    assert list(await log.since("a", 0)) == [(3, 3.0)]
    assert list(await log.since("b", 0)) == [(3, 3.0)]
