"""The command that migrates: it waits for a database, as long as it was told, and says how it ended."""

import asyncio
from pathlib import Path

import pytest

from common.clock import VirtualClock
from common.db import Database
from common.errors import Unavailable
from control import migrate


class Late:
    """A database that answers from some attempt on."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked = 0

    async def migrate(self) -> None:
        self.asked += 1
        if self.asked <= self.failures:
            raise Unavailable("no route")


async def run(database: Late, wait_seconds: float) -> VirtualClock:
    clock = VirtualClock()

    async def pause(seconds: float) -> None:
        clock.advance(seconds)

    await migrate.migrate(database, wait_seconds, clock, pause)  # type: ignore[arg-type]
    return clock


async def test_it_waits_for_a_database_that_comes_later() -> None:
    database = Late(failures=3)
    clock = await run(database, wait_seconds=60)
    assert (database.asked, clock.monotonic_seconds()) == (4, VirtualClock().monotonic_seconds() + 6)


@pytest.mark.parametrize(("wait_seconds", "asked"), [(0.0, 1), (5.0, 4)])
async def test_it_gives_up_when_the_time_is_over(wait_seconds: float, asked: int) -> None:
    database = Late(failures=100)
    with pytest.raises(Unavailable, match="no route"):
        await run(database, wait_seconds)
    assert database.asked == asked


def test_the_command_makes_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'made.db'}"
    monkeypatch.setattr(migrate, "configure_logging", lambda *_: None)
    monkeypatch.setenv("COMPUTILITY_STORE__URL", url)
    assert migrate.main([]) == migrate.main([]) == 0

    async def revision() -> str:
        database = Database(url)
        async with database.read() as connection:
            rows = await connection.exec_driver_sql("SELECT version_num FROM alembic_version")
            found = str(rows.scalar_one())
        await database.close()
        return found

    assert asyncio.run(revision())


def test_a_wrong_url_ends_it_with_the_setting_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(migrate, "configure_logging", lambda *_: None)
    monkeypatch.setenv("COMPUTILITY_STORE__URL", "mysql://host/name")
    assert migrate.main([]) == 2
    assert "store.url" in capsys.readouterr().err
