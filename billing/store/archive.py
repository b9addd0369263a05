"""Archives of the ledger: a month's events and transactions as Parquet files with a sum that can be checked.

``python -m billing.store.archive write 2026-03 --to FOLDER`` writes what is posted of a month that is over;
settings name the database. ``check`` reads the files back and holds them against their own sums, ``read``
prints the events, one JSON object a line. Nothing is removed from the database.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from billing.core.invoicing import Period
from billing.months import month_of
from billing.store.schema import journal, prices_pinned, usage_events, usage_totals
from common.clock import SYSTEM_CLOCK, Clock
from common.db import Database
from common.errors import ComputilityError, Conflict, InvalidInput, mapping_of
from common.settings import load_settings

PAGE = 5000
TABLES = (usage_events, journal, prices_pinned)
_HASH_BYTES = 1024**2

Record = Mapping[str, Any]
"""A row of a table, by its columns."""


async def write_archive(database: Database, month: str, folder: Path, clock: Clock = SYSTEM_CLOCK) -> Record:
    """Write a month (UTC) of all tenants, and what is told of it, which lies beside the files.

    Raises ``InvalidInput`` for a month that is none, not over, or was written before, and ``Conflict`` where
    another writes into the folder, or the rows are not what the ledger's totals say: as usage was posted
    meanwhile, or as something is wrong.
    """
    period = _period_over(month, clock)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(folder):
        return await _write_month(database, month, period, folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else writes into the folder meanwhile; the death of the process ends that. Raises
    ``Conflict``."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Conflict(f"{folder}: another archive is being written there; try again later") from error
    finally:
        os.close(handle)


async def _write_month(database: Database, month: str, period: Period, folder: Path) -> Record:
    told = folder / _told_name(month)
    if told.exists():
        raise InvalidInput(f"month: {told} is there; archives are not overwritten", param="month")
    written = {table.name: _Written(table, folder / _name(table, month)) for table in TABLES}
    try:
        sums = _Sums()
        async for events, transactions in _pages(database, period):
            sums.add(events, transactions)
            written["usage_events"].write(events)
            written["journal"].write(transactions)
        written["prices_pinned"].write(await _all_of(database, prices_pinned))
        await _compare(database, period, sums)
    except BaseException:
        for one in written.values():
            one.discard()
        raise
    files = {one.path.name: one.finish() for one in written.values()}
    content = {"month": month, **vars(sums), "files": files}
    _write_durably(told, json.dumps(content, indent=2, sort_keys=True))
    return content


def check_archive(month: str, folder: Path) -> Record:
    """What is told of a month's archive, once its files are what that says. Raises ``InvalidInput`` naming
    the file that is not, or the event."""
    _period_of(month)
    content: Record = json.loads((folder / _told_name(month)).read_text())
    for name, file in content["files"].items():
        if _digest(folder / name) != file["sha256"]:
            raise InvalidInput(f"{name}: is not what was written: another SHA-256", param=name)
    sums = _Sums()
    for rows in _batches(month, folder, "usage_events"):
        sums.add(rows, ())
    for rows in _batches(month, folder, "journal"):
        sums.add((), rows)
    for name, sum_ in vars(sums).items():
        if sum_ != content[name]:
            raise InvalidInput(f"{name}: the files have {sum_}, not {content[name]}", param=name)
    return content


def read_archive(month: str, folder: Path, table: str = "usage_events") -> Iterator[Record]:
    """The rows of a table as they were in the database."""
    for rows in _batches(month, folder, table):
        yield from rows


def _batches(month: str, folder: Path, table: str) -> Iterator[Sequence[Record]]:
    _period_of(month)
    file = import_module("pyarrow.parquet").ParquetFile(folder / f"{table}-{month}.parquet")
    with file:
        for batch in file.iter_batches(PAGE):
            yield batch.to_pylist()


class _Sums:
    """What rows add up to. Adding raises ``Conflict`` for one that is not what it says of itself."""

    def __init__(self) -> None:
        self.events = self.reversed = self.microcredits = self.transactions = 0

    def add(self, events: Sequence[Record], transactions: Sequence[Record]) -> None:
        for event in events:
            if hashlib.sha256(event["document"].encode()).hexdigest() != event["digest"]:
                raise Conflict(f"the event {event['id']} is not what its digest is of")
            standing = event["reversed_ms"] is None
            self.events += standing
            self.reversed += not standing
            self.microcredits += event["microcredits"] if standing else 0
        for one in transactions:
            if sum(entry[1] for entry in json.loads(one["entries"])):
                raise Conflict(f"the transaction {one['type']}/{one['event_id']} does not add up to 0")
        self.transactions += len(transactions)


class _Written:
    """A Parquet file that is being written, under another name until it is whole."""

    def __init__(self, table: sa.Table, path: Path) -> None:
        try:
            self._pa, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        except ImportError as error:
            raise InvalidInput("an archive needs pyarrow, which is not installed") from error
        kinds = [
            (column.name, self._pa.int64() if isinstance(column.type, sa.Integer) else self._pa.string())
            for column in table.columns
        ]
        self.path, self._schema, self._rows = path, self._pa.schema(kinds), 0
        self._part = path.with_suffix(".part")
        self._writer = parquet.ParquetWriter(self._part, self._schema, compression="zstd")

    def write(self, rows: Sequence[Record]) -> None:
        self._rows += len(rows)
        self._writer.write_table(self._pa.Table.from_pylist(list(rows), schema=self._schema))

    def finish(self) -> Record:
        """Make it durable under its name; its digest and number of rows."""
        self._writer.close()
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._part.rename(self.path)
        return {"sha256": _digest(self.path), "rows": self._rows}

    def discard(self) -> None:
        self._writer.close()
        self._part.unlink(missing_ok=True)


def _period_of(month: str) -> Period:
    try:
        return month_of(month)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"month: {month!r} is none; write 2026-03", param="month") from error


def _period_over(month: str, clock: Clock) -> Period:
    period = _period_of(month)
    if period.end_ms > clock.now_ms():
        raise InvalidInput(f"month: {month} is not over", param="month")
    return period


async def _pages(
    database: Database, period: Period
) -> AsyncIterator[tuple[Sequence[Record], Sequence[Record]]]:
    """Events in the order of their ends, and their transactions."""
    table = usage_events.c
    place = sa.tuple_(table.ended_ms, table.id)
    of_month = table.ended_ms >= period.begin_ms, table.ended_ms < period.end_ms
    query = sa.select(usage_events).where(*of_month).order_by(table.ended_ms, table.id).limit(PAGE)
    after: tuple[int, str] | None = None
    while True:
        async with database.read() as connection:
            page = query if after is None else query.where(place > after)
            events = _records(await connection.execute(page))
            if not events:
                return
            last = events[-1]["ended_ms"], events[-1]["id"]
            of_page = sa.select(journal).join(usage_events, usage_events.c.id == journal.c.event_id)
            of_page = of_page.where(*of_month, place <= last).order_by(journal.c.event_id, journal.c.type)
            of_page = of_page if after is None else of_page.where(place > after)
            transactions = _records(await connection.execute(of_page))
        yield events, transactions
        after = last


async def _compare(database: Database, period: Period, sums: _Sums) -> None:
    table = usage_totals.c
    query = sa.select(sa.func.sum(table.events), sa.func.sum(table.microcredits))
    query = query.where(table.day >= period.first_day, table.day <= period.last_day)
    async with database.read() as connection:
        events, microcredits = (await connection.execute(query)).one()
    told = int(events or 0), int(microcredits or 0)
    found = sums.events, sums.microcredits
    if told != found or sums.transactions != sums.events + 2 * sums.reversed:
        raise Conflict(
            f"events and micro-credits are {found}, totals say {told}; was usage posted meanwhile?"
        )


async def _all_of(database: Database, table: sa.Table) -> Sequence[Record]:
    async with database.read() as connection:
        return _records(await connection.execute(sa.select(table).order_by(table.c[0])))


def _records(rows: sa.CursorResult[Any]) -> list[Record]:
    return [dict(row._mapping) for row in rows]


def _name(table: sa.Table, month: str) -> str:
    return f"{table.name}-{month}.parquet"


def _told_name(month: str) -> str:
    return f"archive-{month}.json"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_HASH_BYTES):
            digest.update(part)
    return digest.hexdigest()


def _write_durably(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


async def _write(month: str, folder: Path) -> Record:
    database = Database(load_settings().store_url)
    try:
        return await write_archive(database, month, folder)
    finally:
        await database.close()


def main() -> int:
    """Exit code 0, or that of the error."""
    parser = argparse.ArgumentParser(prog="python -m billing.store.archive", description=__doc__)
    parser.add_argument("what", choices=("write", "check", "read"))
    parser.add_argument("month", help="like 2026-03, in UTC")
    parser.add_argument("--to", "--in", dest="folder", type=Path, required=True, help="where the files are")
    options = parser.parse_args()
    try:
        if options.what == "read":
            for row in read_archive(options.month, options.folder):
                print(row["document"])
        elif options.what == "check":
            print(json.dumps(check_archive(options.month, options.folder)))
        else:
            print(json.dumps(asyncio.run(_write(options.month, options.folder))))
    except (ComputilityError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return mapping_of(error).exit_code if isinstance(error, ComputilityError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
