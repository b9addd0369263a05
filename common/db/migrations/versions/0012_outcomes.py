"""What work has brought, and an index that tells which work a tenant has had"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
WORDS = ("tenant", "project", "work_tag", "work_value", "name")


def upgrade() -> None:
    """There were no outcomes before."""
    op.create_table(
        "outcomes",
        sa.Column("tenant_uid", KEY, primary_key=True),
        sa.Column("id", KEY, primary_key=True),
        sa.Column("digest", sa.Text(), nullable=False),
        *(sa.Column(name, KEY, nullable=False) for name in WORDS),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("value_microcredits", sa.BigInteger(), nullable=False),
        sa.Column("quality_millis", sa.BigInteger(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("day", KEY, nullable=False),
        sa.Column("recorded_ms", sa.BigInteger(), nullable=False),
        sa.Column("withdrawn_ms", sa.BigInteger(), nullable=True),
        sa.Column("tags", KEY, nullable=False),
    )
    op.create_index("ix_outcomes_tenant_at_ms", "outcomes", ["tenant", "at_ms"])
    op.create_index("ix_outcomes_recorded_ms", "outcomes", ["tenant_uid", "recorded_ms"])
    op.create_index("ix_tagged_series_tenant", "tagged_series", ["tenant", "day"])


def downgrade() -> None:
    raise NotImplementedError("what was recorded since then has no place in the tables of before")
