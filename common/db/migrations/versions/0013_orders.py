"""Products, orders, what these have granted, and vouchers"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """There were no orders before."""
    op.create_table(
        "products",
        sa.Column("name", KEY, primary_key=True),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
    )
    op.create_table(
        "orders",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("tenant", KEY, nullable=False),
        sa.Column("tenant_uid", KEY, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("ordered_ms", sa.BigInteger(), nullable=False),
        sa.Column("microcredits", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
    )
    op.create_index("ix_orders_tenant", "orders", ["tenant", "ordered_ms"])
    op.create_table(
        "allotments",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("tenant", KEY, nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("ends_ms", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("carried", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("cancelled", sa.Integer(), nullable=False),
        sa.Column("refund_microcredits", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("0 <= carried AND carried <= used AND used <= granted", name="ck_allotments_used"),
    )
    op.create_index("ix_allotments_tenant", "allotments", ["tenant", "ended_ms"])
    op.create_table(
        "vouchers",
        sa.Column("digest", KEY, primary_key=True),
        sa.Column("name", KEY, nullable=False, unique=True),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("order_id", KEY, nullable=True),
        sa.Column("voided_ms", sa.BigInteger(), nullable=True),
    )
    guard = _guard_sqlite if op.get_bind().dialect.name == "sqlite" else _guard_postgres
    for table, key in (("orders", "id"), ("allotments", "id"), ("vouchers", "digest")):
        guard(table, key, _refused(table))


FIXED = {
    "allotments": ("id", "tenant", "granted", "ends_ms"),
    "vouchers": ("digest", "name", "issued_ms", "document"),
}
OVER = {
    "allotments": "OLD.ended_ms IS NOT NULL AND (NEW.ended_ms IS NULL OR NEW.ended_ms != OLD.ended_ms "
    "OR NEW.cancelled != OLD.cancelled OR NEW.refund_microcredits != OLD.refund_microcredits)",
    "vouchers": "OLD.order_id IS NOT NULL OR OLD.voided_ms IS NOT NULL",
}


def _refused(table: str) -> str:
    """When a change is refused: what was granted never changes, what is over stays so."""
    if table == "orders":
        return "1 = 1"
    changes = " OR ".join(f"NEW.{name} != OLD.{name}" for name in FIXED[table])
    return f"{changes} OR ({OVER[table]})"


def _guard_sqlite(table: str, key: str, when: str) -> None:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    op.execute(f"CREATE TRIGGER {table}_kept BEFORE DELETE ON {table} {refuse}")
    op.execute(f"CREATE TRIGGER {table}_fixed BEFORE UPDATE ON {table} WHEN {when} {refuse}")
    # REPLACE removes rows without a word to the trigger of DELETE.
    there = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})"
    op.execute(f"CREATE TRIGGER {table}_new BEFORE INSERT ON {table} {there} {refuse}")


def _guard_postgres(table: str, key: str, when: str) -> None:
    op.execute(
        f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE EXCEPTION '{table} is append-only' USING ERRCODE = 'restrict_violation'; END $$"
    )
    run = f"EXECUTE FUNCTION {table}_refuse()"
    op.execute(f"CREATE TRIGGER {table}_kept BEFORE DELETE ON {table} FOR EACH ROW {run}")
    op.execute(f"CREATE TRIGGER {table}_whole BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {run}")
    op.execute(f"CREATE TRIGGER {table}_fixed BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({when}) {run}")


def downgrade() -> None:
    raise NotImplementedError("what was ordered since then has no place in the tables of before")
