"""The Model that did the work"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("usage_events", sa.Column("model_identity", KEY, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("usage_events", "model_identity")
