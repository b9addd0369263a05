"""Archives of the ledger: what is read back is what was posted, and what is not is told of."""

import asyncio
import json
from pathlib import Path

import pytest

from billing.store import Ledger
from billing.store.archive import check_archive, read_archive, write_archive
from billing.store.schema import usage_totals
from common.clock import VirtualClock
from common.db import Database
from common.errors import Conflict, InvalidInput
from tests.contract.test_invoices import APRIL, MARCH
from tests.contract.test_ledger import chat, ledger, many_events, prices

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

__all__ = ["ledger", "prices"]

CLOCK = VirtualClock(APRIL)


async def posted(ledger: Ledger) -> None:
    events = many_events()
    await ledger.post([*events, chat("april", ended_ms=MARCH.end_ms)])
    for event in events[:7]:
        await ledger.reverse(event.id, "a test")


async def test_a_month_is_read_back_as_it_was_posted(
    database: Database, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.store.archive.PAGE", 70)
    await posted(ledger)
    told = await write_archive(database, "2026-03", tmp_path, CLOCK)
    assert (told["events"], told["reversed"], told["transactions"]) == (293, 7, 307)
    assert check_archive("2026-03", tmp_path) == told
    found = {row["id"]: json.loads(row["document"]) for row in read_archive("2026-03", tmp_path)}
    assert found == {event.id: json.loads(event.canonical()) for event in many_events()}
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(InvalidInput, match="not overwritten"):
        await write_archive(database, "2026-03", tmp_path, CLOCK)


async def test_two_never_write_into_a_folder_at_once(
    database: Database, ledger: Ledger, tmp_path: Path
) -> None:
    await posted(ledger)
    tries = [write_archive(database, "2026-03", tmp_path, CLOCK) for _ in range(2)]
    both = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(isinstance(one, Conflict) for one in both) == [False, True]
    assert check_archive("2026-03", tmp_path) in both


async def test_files_that_changed_are_told_of(database: Database, ledger: Ledger, tmp_path: Path) -> None:
    await posted(ledger)
    await write_archive(database, "2026-03", tmp_path, CLOCK)
    file = tmp_path / "journal-2026-03.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:90] + bytes([content[90] ^ 1]) + content[91:])
    with pytest.raises(InvalidInput, match="journal-2026-03"):
        check_archive("2026-03", tmp_path)


async def test_what_the_totals_do_not_say_is_not_archived(
    database: Database, ledger: Ledger, tmp_path: Path
) -> None:
    await posted(ledger)
    async with database.write() as connection:
        await connection.execute(usage_totals.update().values(events=usage_totals.c.events + 1))
    with pytest.raises(Conflict, match="totals say"):
        await write_archive(database, "2026-03", tmp_path, CLOCK)
    assert not [*tmp_path.glob("*.part"), *tmp_path.glob("*.parquet"), *tmp_path.glob("*.json")]


@pytest.mark.parametrize("month", ["2026-04", "2026-13", "2026-3", "..", ""])
async def test_a_month_that_is_none_or_not_over_is_refused(
    database: Database, tmp_path: Path, month: str
) -> None:
    with pytest.raises(InvalidInput, match="month"):
        await write_archive(database, month, tmp_path, CLOCK)
    with pytest.raises((InvalidInput, FileNotFoundError)):
        check_archive(month, tmp_path)


async def test_a_month_without_usage_is_an_archive_too(database: Database, tmp_path: Path) -> None:
    told = await write_archive(database, "2026-02", tmp_path, CLOCK)
    assert (told["events"], check_archive("2026-02", tmp_path)) == (0, told)
    assert list(read_archive("2026-02", tmp_path)) == []
