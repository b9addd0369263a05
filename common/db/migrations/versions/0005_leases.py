"""Which control process leads"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", KEY, primary_key=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("name", "epoch", name="uq_leases_name_epoch"),
    )
    op.execute("INSERT INTO leases (name, epoch, holder, url, beat) VALUES ('control', 0, '', '', 0)")


def downgrade() -> None:
    op.drop_table("leases")
