"""The store's tables. ``common/db/migrations`` makes them; a test keeps both the same.

``owner_tenant`` and ``owner_project`` are an ``Ownership``: uids, or ``*``, or empty.
"""

from __future__ import annotations

import sqlalchemy as sa

from common.db import BIG_INTEGER_KEY, KEY
from common.store.ownership import EVERYBODY, Viewer

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
    sa.Column("owner_tenant", KEY, nullable=False, server_default=""),
    sa.Column("owner_project", KEY, nullable=False, server_default=""),
)

resource_history = sa.Table(
    "resource_history",
    METADATA,
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("kind", KEY, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("owner_tenant", KEY, nullable=False, server_default=""),
    sa.Column("owner_project", KEY, nullable=False, server_default=""),
    sa.Column("size_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("ix_resource_history_owner", "owner_tenant", "owner_project", "revision", "size_bytes"),
)

history_horizons = sa.Table(
    "history_horizons",
    METADATA,
    sa.Column("owner_tenant", KEY, primary_key=True),
    sa.Column("owner_project", KEY, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
)
"""Of each owner, the last revision whose change is no longer kept."""

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
    sa.Column("owner_tenant", KEY, nullable=False, server_default=""),
    sa.Column("owner_project", KEY, nullable=False, server_default=""),
    sa.Index("ix_events_time_ms_id", "time_ms", "id"),
    sa.Index("ix_events_kind_name_time_ms", "kind", "name", "time_ms"),
    sa.Index("ix_events_owner_tenant", "owner_tenant", "owner_project", "time_ms", "id"),
    sa.Index("ix_events_owner_project", "owner_project", "time_ms", "id"),
)

answers = sa.Table(
    "answers",
    METADATA,
    sa.Column("scope", KEY, primary_key=True),
    sa.Column("key", KEY, primary_key=True),
    sa.Column("tenant", KEY, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Index("ix_answers_tenant_scope", "tenant", "scope", "created_ms", "size_bytes"),
)
"""What writes with an Idempotency-Key were answered."""

spec_revisions = sa.Table(
    "spec_revisions",
    METADATA,
    sa.Column("uid", KEY, primary_key=True),
    sa.Column("generation", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("writer", sa.Text, nullable=False),
    sa.Column("tenant", KEY, nullable=False),
    sa.Column("paths", sa.Text, nullable=False),
    sa.Column("spec", sa.Text, nullable=True),
)
"""Specs that resources have and had: see ``common.store.revisions``."""

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
    sa.Column("tenant", KEY, nullable=False, server_default=""),
    sa.Index("ix_audit_log_tenant_principal", "tenant", "principal", "sequence"),
)

samples = sa.Table(
    "samples",
    METADATA,
    sa.Column("series", KEY, primary_key=True),
    sa.Column("at_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Double, nullable=False),
)

batch_lines = sa.Table(
    "batch_lines",
    METADATA,
    sa.Column("batch", KEY, primary_key=True),
    sa.Column("line", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("project", KEY, nullable=False),
    sa.Column("is_good", sa.Boolean, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("is_posted", sa.Boolean, nullable=False),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False),
    sa.Column("completion_tokens", sa.BigInteger, nullable=False),
    sa.Index("ix_batch_lines_posted", "batch", "is_posted", "line"),
    sa.Index("ix_batch_lines_project", "project", "size_bytes"),
)
"""What came of the lines of batches that have not ended: see ``common.store.batch_lines``."""

leases = sa.Table(
    "leases",
    METADATA,
    sa.Column("name", KEY, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("name", "epoch", name="uq_leases_name_epoch"),
)
"""Who leads: see ``common.leadership``. ``epoch`` is part of a key, so that PostgreSQL lets a row that is
locked FOR KEY SHARE have another ``beat``, and no other ``epoch``."""


def owned_by(table: sa.Table, tenant: str, project: str | None = None) -> sa.ColumnElement[bool]:
    """Rows of ``table`` that belong to a tenant, or of those to one project."""
    of_tenant = table.c.owner_tenant == tenant
    return of_tenant if project is None else sa.and_(of_tenant, table.c.owner_project == project)


def seen_by(table: sa.Table, viewer: Viewer) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions that no two rows share: together they find what ``Viewer.sees``, each by one index."""
    conditions = [table.c.owner_tenant == EVERYBODY]
    if viewer.project:
        own = table.c.owner_project == viewer.project
        conditions.append(sa.and_(own, table.c.owner_tenant != EVERYBODY))
    if viewer.tenant:
        conditions.append(owned_by(table, viewer.tenant, "" if viewer.project else None))
    return tuple(conditions)
