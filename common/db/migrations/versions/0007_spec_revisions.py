"""Specs that resources have and had"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "spec_revisions",
        sa.Column("uid", KEY, primary_key=True),
        sa.Column("generation", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("tenant", KEY, nullable=False),
        sa.Column("paths", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=True),
    )


def downgrade() -> None:
    op.drop_table("spec_revisions")
