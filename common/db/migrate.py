"""Migrations, run by the program itself."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x636F6D70  # any number that nobody else locks in this database


def upgrade_to_head(connection: sa.Connection) -> None:
    """Run the migrations that are missing, in the transaction that ``connection`` is in.

    In SQLite that transaction holds the write lock already; in PostgreSQL an advisory lock keeps others out.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
