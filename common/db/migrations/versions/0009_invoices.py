"""Invoices and credit notes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
WHOLE = ("begin_ms", "end_ms", "issued_ms", "microcredits")


def upgrade() -> None:
    op.create_table(
        "invoices",
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("tenant", KEY, nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in WHOLE),
        sa.Column("document", sa.Text(), nullable=False),
    )
    op.create_index("ix_invoices_tenant", "invoices", ["tenant", "begin_ms"])
    guard = _guard_sqlite if op.get_bind().dialect.name == "sqlite" else _guard_postgres
    guard()


def _guard_sqlite() -> None:
    refuse = "BEGIN SELECT RAISE(ABORT, 'invoices is append-only'); END"
    op.execute(f"CREATE TRIGGER invoices_kept BEFORE DELETE ON invoices {refuse}")
    op.execute(f"CREATE TRIGGER invoices_fixed BEFORE UPDATE ON invoices {refuse}")
    # REPLACE removes rows without a word to the trigger of DELETE; a number that is left out makes a gap.
    wrong = "NEW.number != (SELECT COALESCE(MAX(number), 0) + 1 FROM invoices)"
    op.execute(f"CREATE TRIGGER invoices_new BEFORE INSERT ON invoices WHEN {wrong} {refuse}")


def _guard_postgres() -> None:
    op.execute(
        "CREATE FUNCTION invoices_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'invoices is append-only' USING ERRCODE = 'restrict_violation'; END $$"
    )
    op.execute(
        "CREATE FUNCTION invoices_follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.number != (SELECT COALESCE(MAX(number), 0) + 1 FROM invoices) THEN "
        "RAISE EXCEPTION 'invoices is append-only' USING ERRCODE = 'restrict_violation'; END IF; "
        "RETURN NEW; END $$"
    )
    run = "EXECUTE FUNCTION invoices_refuse()"
    op.execute(f"CREATE TRIGGER invoices_kept BEFORE DELETE OR UPDATE ON invoices FOR EACH ROW {run}")
    op.execute(f"CREATE TRIGGER invoices_whole BEFORE TRUNCATE ON invoices FOR EACH STATEMENT {run}")
    follow = "EXECUTE FUNCTION invoices_follow()"
    op.execute(f"CREATE TRIGGER invoices_new BEFORE INSERT ON invoices FOR EACH ROW {follow}")


def downgrade() -> None:
    raise NotImplementedError("what was invoiced since then has no place in the tables of before")
