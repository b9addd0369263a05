"""Usage is added up by adapter, Endpoint, task, end user and tags, too"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NEW = ("adapter", "endpoint", "task", "end_user", "tags")


def upgrade() -> None:
    """What was posted before has none of these: its series stay, and its events name none."""
    for name in NEW:
        op.add_column("usage_series", sa.Column(name, KEY, nullable=False, server_default=""))
    op.add_column("usage_events", sa.Column("series", KEY, nullable=False, server_default=""))
    op.create_table(
        "tagged_series", *(sa.Column(name, KEY, primary_key=True) for name in ("day", "tenant", "series"))
    )
    _fix_series()


def _fix_series() -> None:
    """The series of an event is as fixed as its amounts."""
    if op.get_bind().dialect.name == "sqlite":
        refuse = "BEGIN SELECT RAISE(ABORT, 'usage_events is append-only'); END"
        op.execute(f"CREATE TRIGGER usage_events_series BEFORE UPDATE OF series ON usage_events {refuse}")
    else:
        op.execute(
            "CREATE TRIGGER usage_events_series BEFORE UPDATE OF series ON usage_events "
            "FOR EACH ROW EXECUTE FUNCTION usage_events_refuse()"
        )


def downgrade() -> None:
    raise NotImplementedError("what was posted since then has no place in the tables of before")
