"""What counts against budgets, and what gateways hold of them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """There were no budgets before."""
    op.create_table(
        "budget_totals",
        sa.Column("budget", KEY, primary_key=True),
        sa.Column("period", KEY, primary_key=True),
        sa.Column("microcredits", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("device_seconds", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "budget_leases",
        sa.Column("budget", KEY, primary_key=True),
        sa.Column("period", KEY, primary_key=True),
        sa.Column("holder", KEY, primary_key=True),
        sa.Column("open", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_budget_leases_holder", "budget_leases", ["holder"])


def downgrade() -> None:
    raise NotImplementedError("what was counted since then has no place in the tables of before")
