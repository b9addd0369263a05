"""How much of a tenant's volume was counted, where a price goes by it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """No price went by volume before."""
    op.create_table(
        "volume_totals",
        sa.Column("tenant", KEY, primary_key=True),
        sa.Column("counter", KEY, primary_key=True),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("what was posted since then has no place in the tables of before")
