"""What came of the lines of batches"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """There were no batches before."""
    op.create_table(
        "batch_lines",
        sa.Column("batch", KEY, primary_key=True),
        sa.Column("line", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("project", KEY, nullable=False),
        sa.Column("is_good", sa.Boolean(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("is_posted", sa.Boolean(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_batch_lines_posted", "batch_lines", ["batch", "is_posted", "line"])
    op.create_index("ix_batch_lines_project", "batch_lines", ["project", "size_bytes"])


def downgrade() -> None:
    raise NotImplementedError("batches have no place in the tables of before")
