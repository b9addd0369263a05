"""Whose each change and event was; answers kept with their writes

Until now history told no owner. Changes are dropped: who watches is told to list again. Events go to today's
owner of their project where that is older than they are, and to the platform only where it is not. Answers to
repeated writes were kept by the name of the key, which may have passed to somebody else: they go.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
EVERYBODY = "*"
Owner = tuple[str, str]
NOBODY: Owner = ("", "")


def upgrade() -> None:
    for table in ("resources", "resource_history", "events"):
        for column in ("owner_tenant", "owner_project"):
            op.add_column(table, sa.Column(column, KEY, nullable=False, server_default=""))
    _renew_history()
    _renew_answers()
    op.add_column("audit_log", sa.Column("tenant", KEY, nullable=False, server_default=""))
    op.create_index("ix_audit_log_tenant_principal", "audit_log", ["tenant", "principal", "sequence"])
    op.create_index("ix_events_owner_project", "events", ["owner_project", "time_ms", "id"])
    op.create_index("ix_events_owner_tenant", "events", ["owner_tenant", "owner_project", "time_ms", "id"])
    _set_owners(op.get_bind())


def _renew_history() -> None:
    op.add_column(
        "resource_history", sa.Column("size_bytes", sa.BigInteger(), nullable=False, server_default="0")
    )
    columns = ["owner_tenant", "owner_project", "revision", "size_bytes"]
    op.create_index("ix_resource_history_owner", "resource_history", columns)
    op.create_table(
        "history_horizons",
        sa.Column("owner_tenant", KEY, primary_key=True),
        sa.Column("owner_project", KEY, primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.execute(
        "INSERT INTO history_horizons (owner_tenant, owner_project, revision) "
        f"SELECT '{EVERYBODY}', '', value FROM store_revision WHERE value > 0"
    )
    op.execute("DELETE FROM resource_history")


def _renew_answers() -> None:
    op.drop_table("idempotency_keys")
    op.create_table(
        "answers",
        sa.Column("scope", KEY, primary_key=True),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("tenant", KEY, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_answers_tenant_scope", "answers", ["tenant", "scope", "created_ms", "size_bytes"])


def _set_owners(connection: sa.Connection) -> None:
    table = sa.table("resources", *(sa.column(c) for c in ("kind", "project", "name", "document")))
    tenants: dict[str, Owner] = {}
    projects: dict[str, Owner] = {}
    for name, document in _documents(connection, table, "Tenant"):
        tenants[name] = (document["metadata"]["uid"], "")
        _own(connection, "resources", "kind = 'Tenant' AND name = :name", tenants[name], name=name)
    for name, document in _documents(connection, table, "Project"):
        metadata, tenant = document["metadata"], document["spec"]["tenant"]
        projects[name] = (tenants.get(tenant, NOBODY)[0], metadata["uid"])
        _own(connection, "resources", "kind = 'Project' AND name = :name", projects[name], name=name)
        _own(connection, "resources", "project = :name", projects[name], name=name)
        since = {"name": name, "since": metadata.get("createdMs", 0)}
        _own(connection, "events", "project = :name AND time_ms >= :since", projects[name], **since)
    cluster = "project = '' AND kind NOT IN ('Tenant', 'Project', 'ApiKey', 'Price')"
    _own(connection, "resources", cluster, (EVERYBODY, ""))
    for kind in ("ApiKey", "Price"):
        for name, document in _documents(connection, table, kind):
            spec = document["spec"]
            owner = projects.get(spec.get("project", ""), tenants.get(spec.get("tenant", ""), NOBODY))
            if kind == "Price" and not spec.get("tenant"):
                owner = (EVERYBODY, "")
            _own(connection, "resources", "kind = :kind AND name = :name", owner, kind=kind, name=name)
    for name, document in _documents(connection, table, "Model"):
        if document["spec"].get("shared"):
            project = document["metadata"]["project"]
            owner = (EVERYBODY, projects.get(project, NOBODY)[1])
            where = "kind = 'Model' AND project = :project AND name = :name"
            _own(connection, "resources", where, owner, project=project, name=name)


def _documents(
    connection: sa.Connection, table: sa.TableClause, kind: str
) -> list[tuple[str, dict[str, Any]]]:
    rows = connection.execute(sa.select(table.c.name, table.c.document).where(table.c.kind == kind))
    return [(name, json.loads(document)) for name, document in rows]


def _own(connection: sa.Connection, table: str, where: str, owner: Owner, **values: object) -> None:
    statement = f"UPDATE {table} SET owner_tenant = :tenant_uid, owner_project = :project_uid WHERE {where}"
    connection.execute(sa.text(statement), {"tenant_uid": owner[0], "project_uid": owner[1], **values})


def downgrade() -> None:
    op.drop_table("answers")
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
    op.drop_table("history_horizons")
    for index, table in (
        ("ix_audit_log_tenant_principal", "audit_log"),
        ("ix_events_owner_project", "events"),
        ("ix_events_owner_tenant", "events"),
        ("ix_resource_history_owner", "resource_history"),
    ):
        op.drop_index(index, table)
    op.drop_column("audit_log", "tenant")
    op.drop_column("resource_history", "size_bytes")
    for table in ("resources", "resource_history", "events"):
        op.drop_column(table, "owner_tenant")
        op.drop_column(table, "owner_project")
