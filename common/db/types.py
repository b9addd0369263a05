"""Column types that mean the same in SQLite and PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Names and ids: compared byte by byte in both databases, whatever the server's locale is."""

BIG_INTEGER_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A generated 64-bit primary key; SQLite generates keys only of type INTEGER, which is 64 bits wide there."""
