"""The store's tables. ``common/db/migrations`` makes them; a test keeps both the same."""

from __future__ import annotations

import sqlalchemy as sa

from common.db import BIG_INTEGER_KEY, KEY

METADATA = sa.MetaData()

store_revision = sa.Table(
    "store_revision",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.BigInteger, nullable=False),
)

resources = sa.Table(
    "resources",
    METADATA,
    sa.Column("kind", KEY, primary_key=True),
    sa.Column("project", KEY, primary_key=True),
    sa.Column("name", KEY, primary_key=True),
    sa.Column("resource_version", sa.BigInteger, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)

resource_history = sa.Table(
    "resource_history",
    METADATA,
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("kind", KEY, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)

events = sa.Table(
    "events",
    METADATA,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("kind", KEY, nullable=False),
    sa.Column("name", KEY, nullable=False),
    sa.Column("project", KEY, nullable=True),
    sa.Column("data", sa.Text, nullable=False),
    sa.Index("ix_events_time_ms_id", "time_ms", "id"),
    sa.Index("ix_events_kind_name_time_ms", "kind", "name", "time_ms"),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    METADATA,
    sa.Column("principal", KEY, primary_key=True),
    sa.Column("key", KEY, primary_key=True),
    sa.Column("body_digest", sa.Text, nullable=False),
    sa.Column("status", sa.Integer, nullable=True),
    sa.Column("body", sa.Text, nullable=True),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Index("ix_idempotency_keys_created_ms", "created_ms"),
)

audit_log = sa.Table(
    "audit_log",
    METADATA,
    sa.Column("sequence", BIG_INTEGER_KEY, primary_key=True),
    sa.Column("id", KEY, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("principal", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
)

samples = sa.Table(
    "samples",
    METADATA,
    sa.Column("series", KEY, primary_key=True),
    sa.Column("at_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Double, nullable=False),
)
