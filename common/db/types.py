"""Column types and functions that mean the same in SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Names and ids: compared byte by byte in both databases, whatever the server's locale is."""

BIG_INTEGER_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A generated 64-bit primary key; SQLite generates keys only of type INTEGER, which is 64 bits wide there."""


class text_bytes(GenericFunction[int]):  # noqa: N801 - it is used like a function
    """The length of a text in UTF-8."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(text_bytes, "postgresql")
def _on_postgresql(element: text_bytes, compiler: Any, **options: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **options)})"


@compiles(text_bytes, "sqlite")
def _on_sqlite(element: text_bytes, compiler: Any, **options: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **options)} AS BLOB))"
