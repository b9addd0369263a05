"""The store and the ledger"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG_INTEGER_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_resources()
    _create_notes()
    _create_usage()
    _create_journal()


def _create_resources() -> None:
    revision_table = op.create_table(
        "store_revision",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(revision_table, [{"id": 1, "value": 0}])
    op.create_table(
        "resources",
        sa.Column("kind", KEY, primary_key=True),
        sa.Column("project", KEY, primary_key=True),
        sa.Column("name", KEY, primary_key=True),
        sa.Column("resource_version", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
    )
    op.create_table(
        "resource_history",
        sa.Column("revision", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
    )


def _create_notes() -> None:
    op.create_table(
        "events",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("project", KEY, nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
    )
    op.create_index("ix_events_time_ms_id", "events", ["time_ms", "id"])
    op.create_index("ix_events_kind_name_time_ms", "events", ["kind", "name", "time_ms"])
    op.create_table(
        "idempotency_keys",
        sa.Column("principal", KEY, primary_key=True),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("body_digest", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_idempotency_keys_created_ms", "idempotency_keys", ["created_ms"])
    op.create_table(
        "audit_log",
        sa.Column("sequence", BIG_INTEGER_KEY, primary_key=True),
        sa.Column("id", KEY, nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
    )


def _create_usage() -> None:
    op.create_table(
        "usage_events",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("tenant", KEY, nullable=False),
        sa.Column("project", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("model", KEY, nullable=False),
        sa.Column("device_class", KEY, nullable=False),
        sa.Column("day", KEY, nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=False),
        sa.Column("posted_ms", sa.BigInteger(), nullable=False),
        sa.Column("reversed_ms", sa.BigInteger(), nullable=True),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("trained_tokens", sa.BigInteger(), nullable=False),
        sa.Column("device_seconds", sa.BigInteger(), nullable=False),
        sa.Column("microcredits", sa.BigInteger(), nullable=False),
        sa.Column("unpriced_lines", sa.Integer(), nullable=False),
    )
    op.create_index("ix_usage_events_ended_ms", "usage_events", ["ended_ms"])
    op.create_index("ix_usage_events_tenant_ended_ms", "usage_events", ["tenant", "project", "ended_ms"])


def _create_journal() -> None:
    op.create_table(
        "journal_transactions",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("event_id", KEY, sa.ForeignKey("usage_events.id"), nullable=False),
        sa.Column("type", KEY, nullable=False),
        sa.Column("posted_ms", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.UniqueConstraint("event_id", "type", name="uq_journal_transactions_event_id_type"),
    )
    op.create_table(
        "journal_entries",
        sa.Column("transaction_id", KEY, sa.ForeignKey("journal_transactions.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("account", KEY, nullable=False),
        sa.Column("microcredits", sa.BigInteger(), nullable=False),
        sa.Column("meter", KEY, nullable=True),
        sa.Column("quantity", sa.BigInteger(), nullable=True),
        sa.Column("price_book", KEY, nullable=True),
        sa.Column("price_version", sa.BigInteger(), nullable=True),
        sa.Column("price_meter", KEY, nullable=True),
        sa.Column("price_model", KEY, nullable=True),
        sa.Column("price_device_class", KEY, nullable=True),
        sa.Column("price_microcredits_per_million", sa.BigInteger(), nullable=True),
    )
    op.create_index("ix_journal_entries_account", "journal_entries", ["account"])


def downgrade() -> None:
    for table in (
        "journal_entries",
        "journal_transactions",
        "usage_events",
        "audit_log",
        "idempotency_keys",
        "events",
        "resource_history",
        "resources",
        "store_revision",
    ):
        op.drop_table(table)
