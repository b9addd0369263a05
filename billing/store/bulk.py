"""Many rows in one statement: PostgreSQL takes a column as one text, SQLite a list of rows.

The driver for PostgreSQL looks at every value of an array four times. A column that is one text, cut up by
the server, costs this process a tenth of that. Nothing can be confused: a separator that stands in a value
means that the column goes as an array, after all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

Row = tuple[Any, ...]
"""The values of a table's columns, in their order."""

IGNORE = "ON CONFLICT DO NOTHING"
_SEPARATOR = "\x1f"
_NULL = "\x1e"
_FEW = 8
"""So few rows go as arrays: texts would save nothing."""


async def insert(
    connection: AsyncConnection, table: sa.Table, rows: Sequence[Row], or_else: str = ""
) -> None:
    """Insert the rows; ``or_else`` is what becomes of those whose primary key is there (empty: an error)."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql(_by_rows(table, or_else), list(rows))
    else:
        statement, columns = _by_columns(table, rows, or_else)
        await connection.exec_driver_sql(statement, columns)


async def insert_new(connection: AsyncConnection, table: sa.Table, rows: Sequence[Row]) -> set[str]:
    """Insert those whose key, the first column, is not there, and return their keys. The database decides:
    SQLite's one writer looks first, PostgreSQL says what it has taken."""
    if connection.dialect.name == "sqlite":
        known = {
            key for key, _ in await look_up(connection, table, [row[0] for row in rows], table.c[0].name)
        }
        new = [row for row in rows if row[0] not in known]
        await insert(connection, table, new)
        return {row[0] for row in new}
    statement, columns = _by_columns(table, rows, f"{IGNORE} RETURNING {table.c[0].name}")
    # As one value: the driver and SQLAlchemy would handle each row.
    keys = f"WITH taken AS ({statement}) SELECT json_agg({table.c[0].name})::text FROM taken"
    taken = (await connection.exec_driver_sql(keys, columns)).scalar_one()
    return set(json.loads(taken)) if taken else set()


async def look_up(
    connection: AsyncConnection, table: sa.Table, keys: Sequence[str], column: str
) -> list[tuple[str, Any]]:
    """The key (the first column) and a column of the rows that have these keys."""
    if not keys:
        return []
    given = _json_list if connection.dialect.name == "sqlite" else _array
    query = sa.select(table.c[0], table.c[column]).where(table.c[0].in_(given(keys)))
    return [(row[0], row[1]) for row in await connection.execute(query)]


async def add(connection: AsyncConnection, table: sa.Table, rows: Iterable[Row]) -> None:
    """Add the numbers of each row to those of the row with the same key, or insert it.

    In the order of the keys, so that two writers never wait for each other in a circle.
    """
    await insert(connection, table, sorted(rows), _adding(table))


def _json_list(keys: Sequence[str]) -> sa.Select[Any]:
    return sa.select(sa.func.json_each(json.dumps(list(keys))).table_valued("value").c.value)


def _array(keys: Sequence[str]) -> sa.Select[Any]:
    return sa.select(sa.func.unnest(sa.cast(list(keys), sa.ARRAY(sa.Text))))


@cache
def _adding(table: sa.Table) -> str:
    sums = ", ".join(
        f"{column.name} = {table.name}.{column.name} + excluded.{column.name}"
        for column in table.columns
        if not column.primary_key
    )
    keys = ", ".join(column.name for column in table.primary_key)
    return f"ON CONFLICT ({keys}) DO UPDATE SET {sums}"


@cache
def _by_rows(table: sa.Table, or_else: str) -> str:
    return f"INSERT INTO {_target(table)} VALUES ({', '.join('?' * len(table.columns))}) {or_else}"


def _by_columns(table: sa.Table, rows: Sequence[Row], or_else: str) -> tuple[str, tuple[Any, ...]]:
    """The statement and its parameters, one for each column."""
    columns = tuple(list(values) for values in zip(*rows, strict=True))
    texts = _as_texts(table, columns) if len(rows) > _FEW else None
    if texts is None:
        return _from_arrays(table, or_else), columns
    return _from_texts(table, or_else), texts


def _as_texts(table: sa.Table, columns: Sequence[list[Any]]) -> tuple[str, ...] | None:
    """Each column as its values with separators between; None where a value holds one, or reads as null."""
    texts = []
    for column, values in zip(table.columns, columns, strict=True):
        if isinstance(column.type, sa.Integer):
            values = [_NULL if value is None else str(value) for value in values]
        elif None in values or _NULL in values:
            return None
        text = _SEPARATOR.join(values)
        if text.count(_SEPARATOR) != len(values) - 1:
            return None
        texts.append(text)
    return tuple(texts)


@cache
def _from_texts(table: sa.Table, or_else: str) -> str:
    cut = ", ".join(
        f"string_to_array(${number}::text, E'\\x1f', E'\\x1e')::{_type(column)}[]"
        for number, column in enumerate(table.columns, start=1)
    )
    return f"INSERT INTO {_target(table)} SELECT * FROM unnest({cut}) {or_else}"


@cache
def _from_arrays(table: sa.Table, or_else: str) -> str:
    arrays = ", ".join(
        f"${number}::{_type(column)}[]" for number, column in enumerate(table.columns, start=1)
    )
    return f"INSERT INTO {_target(table)} SELECT * FROM unnest({arrays}) {or_else}"


def _target(table: sa.Table) -> str:
    return f"{table.name} ({', '.join(column.name for column in table.columns)})"


def _type(column: sa.Column[Any]) -> str:
    if isinstance(column.type, sa.BigInteger):
        return "bigint"
    return "integer" if isinstance(column.type, sa.Integer) else "text"
