"""One async SQLAlchemy engine: an SQLite file, or PostgreSQL by URL."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import cache
from pathlib import Path
from sqlite3 import Error as SqliteError
from sqlite3 import OperationalError
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from common.clock import SYSTEM_CLOCK
from common.db.migrate import upgrade_to_head
from common.errors import DATABASE_UNAVAILABLE, InvalidInput, SetupError, Unavailable

SQLITE = "sqlite+aiosqlite"
POSTGRES = "postgresql+asyncpg"
BUSY_TIMEOUT_SECONDS = 30
FREED_PAGES = 4096
IDLE_IN_TRANSACTION_SECONDS = 5
"""So long PostgreSQL bears a transaction of a process that has stopped in its midst; then its locks go."""
_BEGIN = "computility_sqlite_begin"
_LOG_BYTES = 16 * 1024**2
_RETRY_SECONDS = 0.01
_SETTLED_SECONDS = 2.0
_PRAGMAS = (
    "auto_vacuum=INCREMENTAL",  # first: only an empty file takes it
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    f"journal_size_limit={_LOG_BYTES}",
)
"""Of every SQLite connection. Pages of rows that are gone are given back by the store as it prunes; the
write-ahead log is cut back to ``_LOG_BYTES`` when it was larger."""

Mark = tuple[int, int, int]
"""Of the write-ahead log: which file it is, when it was written (in nanoseconds) and its size in bytes."""
Fence = Callable[[AsyncConnection], Awaitable[None]]
"""Raises where this process may not write, in the transaction in which it would."""
_MIGRATING: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class Database:
    """An engine for ``sqlite+aiosqlite:///<path>`` or ``postgresql+asyncpg://<user>@<host>/<name>``.

    A committed transaction survives the death of the process and, as SQLite runs with ``synchronous=FULL``,
    that of the machine. Raises ``InvalidInput`` for another URL and ``SetupError`` when the driver is
    missing. Every use raises ``Unavailable`` when the database cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = _parse_url(url)
        self.is_sqlite = self.url.drivername == SQLITE
        self.engine: AsyncEngine = _sqlite_engine(self.url) if self.is_sqlite else _postgres_engine(self.url)
        self._writing_engine = self.engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._sqlite_writer = asyncio.Lock()
        self.fence: Fence | None = None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection with one consistent view of the data; nothing that it does is kept."""
        async with self._named_failures(), self.engine.connect() as connection:
            yield connection

    async def read_number(self, query: sa.Select[int]) -> int:
        """The one number that a query without parameters tells. With SQLite in one turn of the driver's
        thread, in place of one each for a cursor, the query, its row and the cursor's end: some of these are
        asked all the time."""
        async with self.read() as connection:
            if not self.is_sqlite:
                return (await connection.execute(query)).scalar_one()
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            [(number,)] = await driver.execute_fetchall(_as_text(query))
            return int(number)

    def mark(self) -> Mark | None:
        """Another one after each commit to the SQLite file, by whatever process. None where that cannot be
        told without asking the database: with PostgreSQL, and for a moment after each commit, as the next one
        may have the same time."""
        if not self.is_sqlite:
            return None
        try:
            log = os.stat(f"{self.url.database}-wal")
        except OSError:
            return None
        age_seconds = SYSTEM_CLOCK.now_ms() / 1000 - log.st_mtime
        return (log.st_ino, log.st_mtime_ns, log.st_size) if age_seconds >= _SETTLED_SECONDS else None

    @asynccontextmanager
    async def write(self, *, fenced: bool = True) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end, or rolled back when the block raises. ``fence``, where
        there is one, is asked first; what is not ``fenced`` is written whoever leads.

        SQLite has one writer at a time: tasks of this process queue for it here, other processes wait for the
        lock of the file.
        """
        queue = self._sqlite_writer if self.is_sqlite else nullcontext()
        async with queue, self._named_failures(), self._writing_engine.begin() as connection:
            if fenced and self.fence is not None:
                await self.fence(connection)
            yield connection

    async def migrate(self) -> None:
        """Bring the tables to the newest version. Safe in several processes at once: all but one wait."""
        if self.is_sqlite:
            await self._let_the_file_shrink()
        # What runs migrations keeps its state in its module: one at a time in a process.
        turn = _MIGRATING.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with turn, self.write(fenced=False) as connection:
            await connection.run_sync(upgrade_to_head)

    async def shrink(self) -> None:
        """Give free pages back to the file system, not too many at a time; PostgreSQL sees to it itself."""
        if not self.is_sqlite:
            return
        async with self._sqlite_writer, self._named_failures(), self.engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            # As a script: the driver would make only the first step of the statement alone.
            await driver.executescript(f"PRAGMA incremental_vacuum({FREED_PAGES})")

    async def _let_the_file_shrink(self) -> None:
        """Rewrite, once, a file that was made without keeping account of its free pages."""
        async with self._sqlite_writer, self._named_failures(), self.engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            [(mode,)] = await (await driver.execute("PRAGMA auto_vacuum")).fetchall()
            if mode == 0:
                await driver.execute("PRAGMA auto_vacuum=INCREMENTAL")
                await driver.execute("VACUUM")

    @asynccontextmanager
    async def _named_failures(self) -> AsyncIterator[None]:
        """A database that is away, locked, full or broken is ``Unavailable``; our own mistakes are not.

        A value that it cannot hold or compare (a NUL in a text, a number over 64 bits) is ``InvalidInput``.
        """
        try:
            yield
        except (IntegrityError, DataError, ProgrammingError):
            raise
        except OverflowError as error:
            raise _unfit(error) from error
        except (OSError, SqliteError, DBAPIError, PoolTimeout) as error:
            if isinstance(error, DBAPIError) and _is_data_error(error):
                raise _unfit(error.orig) from error
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise Unavailable(
                f"the database {self.url.render_as_string()} cannot be used: {reason}; check store.url",
                code=DATABASE_UNAVAILABLE,
            ) from error

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


@cache
def _as_text(query: sa.Select[int]) -> str:
    return str(query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))


def _is_data_error(error: DBAPIError) -> bool:
    """Whether a value was wrong: SQL states of class 22, for which the PostgreSQL driver has no class."""
    return str(getattr(error.orig, "sqlstate", "") or "").startswith("22")


def _unfit(reason: object) -> InvalidInput:
    return InvalidInput(f"a value is one that the database cannot hold or compare: {reason}", "value_unfit")


def _parse_url(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except ArgumentError as error:
        raise InvalidInput(f"store.url: {text!r} is not a database URL", param="store.url") from error
    if url.drivername not in (SQLITE, POSTGRES):
        raise InvalidInput(
            f"store.url: {url.drivername}:// is not supported; write {SQLITE}:///<path> or {POSTGRES}://<user>@<host>/<name>",
            param="store.url",
        )
    if url.drivername == SQLITE and url.database in (None, "", ":memory:"):
        raise InvalidInput(f"store.url: SQLite needs a file; write {SQLITE}:///<path>", param="store.url")
    return url


def _sqlite_engine(url: sa.URL) -> AsyncEngine:
    Path(url.database or "").parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_async_engine(url, connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_SECONDS})

    @event.listens_for(engine.sync_engine, "connect")
    def set_pragmas(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            _set_pragma(cursor, f"PRAGMA {pragma}")
        cursor.close()

    # The driver starts no transactions (isolation_level None); a writer locks the file at the beginning, so
    # that what it reads cannot change before it writes.
    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    return engine


def _set_pragma(cursor: Any, statement: str) -> None:
    """Set it, also while another connection makes the new file what this one wants it to be: to that SQLite
    answers at once that the file is locked, however long it may wait."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            cursor.execute(statement)
            return
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def _postgres_engine(url: sa.URL) -> AsyncEngine:
    idle = {"idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_SECONDS * 1000)}
    options = {"server_settings": idle}
    try:
        return create_async_engine(
            url, pool_pre_ping=True, pool_size=10, max_overflow=10, connect_args=options
        )
    except ModuleNotFoundError as error:
        raise SetupError(
            f"{error.name} is missing, which {POSTGRES}:// needs; install computility[postgres]"
        ) from error
