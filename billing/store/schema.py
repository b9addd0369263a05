"""The ledger's tables. ``common/db/migrations`` makes them; a test keeps both the same.

The journal is only appended to. A usage event is written once; ``reversed_ms`` is set when it is taken back.
"""

from __future__ import annotations

import sqlalchemy as sa

from common.db import KEY

METADATA = sa.MetaData()

usage_events = sa.Table(
    "usage_events",
    METADATA,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("kind", KEY, nullable=False),
    sa.Column("tenant", KEY, nullable=False),
    sa.Column("project", KEY, nullable=False),
    sa.Column("key", KEY, nullable=False),
    sa.Column("model", KEY, nullable=False),
    sa.Column("device_class", KEY, nullable=False),
    sa.Column("day", KEY, nullable=False),
    sa.Column("ended_ms", sa.BigInteger, nullable=False),
    sa.Column("posted_ms", sa.BigInteger, nullable=False),
    sa.Column("reversed_ms", sa.BigInteger, nullable=True),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False),
    sa.Column("completion_tokens", sa.BigInteger, nullable=False),
    sa.Column("trained_tokens", sa.BigInteger, nullable=False),
    sa.Column("device_seconds", sa.BigInteger, nullable=False),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
    sa.Column("unpriced_lines", sa.Integer, nullable=False),
    sa.Column("model_identity", KEY, nullable=False, server_default=""),
    sa.Index("ix_usage_events_ended_ms", "ended_ms"),
    sa.Index("ix_usage_events_tenant_ended_ms", "tenant", "project", "ended_ms"),
)

journal_transactions = sa.Table(
    "journal_transactions",
    METADATA,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("event_id", KEY, sa.ForeignKey("usage_events.id"), nullable=False),
    sa.Column("type", KEY, nullable=False),
    sa.Column("posted_ms", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.UniqueConstraint("event_id", "type", name="uq_journal_transactions_event_id_type"),
)

journal_entries = sa.Table(
    "journal_entries",
    METADATA,
    sa.Column("transaction_id", KEY, sa.ForeignKey("journal_transactions.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("account", KEY, nullable=False),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
    sa.Column("meter", KEY, nullable=True),
    sa.Column("quantity", sa.BigInteger, nullable=True),
    sa.Column("price_book", KEY, nullable=True),
    sa.Column("price_version", sa.BigInteger, nullable=True),
    sa.Column("price_meter", KEY, nullable=True),
    sa.Column("price_model", KEY, nullable=True),
    sa.Column("price_device_class", KEY, nullable=True),
    sa.Column("price_microcredits_per_million", sa.BigInteger, nullable=True),
    sa.Index("ix_journal_entries_account", "account"),
)
