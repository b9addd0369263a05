"""The ledger's tables. ``common/db/migrations`` makes them; a test keeps both the same.

The database itself refuses to change or remove what was posted: triggers stand on ``usage_events`` (but for
``reversed_ms``, which is set once), ``journal`` and ``prices_pinned``. The totals are sums of these, written
in the same transaction.
"""

from __future__ import annotations

import sqlalchemy as sa

from billing.core.events import METERS
from common.db import KEY

METADATA = sa.MetaData()

SERIES_SINCE_TAGS = ("adapter", "endpoint", "task", "end_user", "tags")
"""``tags`` is a sorted JSON object, empty without any."""
SERIES = (
    *("tenant", "project", "key", "model", "model_identity", "kind", "device_class"),
    *SERIES_SINCE_TAGS,
)

usage_events = sa.Table(
    "usage_events",
    METADATA,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("kind", KEY, nullable=False),
    sa.Column("tenant", KEY, nullable=False),
    sa.Column("project", KEY, nullable=False),
    sa.Column("key", KEY, nullable=False),
    sa.Column("model", KEY, nullable=False),
    sa.Column("device_class", KEY, nullable=False),
    sa.Column("day", KEY, nullable=False),
    sa.Column("ended_ms", sa.BigInteger, nullable=False),
    sa.Column("posted_ms", sa.BigInteger, nullable=False),
    sa.Column("reversed_ms", sa.BigInteger, nullable=True),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False),
    sa.Column("completion_tokens", sa.BigInteger, nullable=False),
    sa.Column("trained_tokens", sa.BigInteger, nullable=False),
    sa.Column("device_seconds", sa.BigInteger, nullable=False),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
    sa.Column("unpriced_lines", sa.Integer, nullable=False),
    sa.Column("model_identity", KEY, nullable=False, server_default=""),
    sa.Column("series", KEY, nullable=False, server_default=""),
    sa.Index("ix_usage_events_ended_ms", "ended_ms"),
    sa.Index("ix_usage_events_tenant_ended_ms", "tenant", "project", "ended_ms"),
)

journal = sa.Table(
    "journal",
    METADATA,
    sa.Column("event_id", KEY, primary_key=True),
    sa.Column("type", KEY, primary_key=True),
    sa.Column("posted_ms", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("entries", sa.Text, nullable=False),
)
"""One row for each transaction: ``entries`` is its JSON, ``[account, amount]`` or ``[account, amount, meter,
quantity, id of the pinned price or null]``;
where the price is by volume also the name of its count, and what was counted before."""

prices_pinned = sa.Table(
    "prices_pinned",
    METADATA,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
)
"""Every price that any line was rated with; ``id`` is the digest of ``document``."""

usage_series = sa.Table(
    "usage_series",
    METADATA,
    sa.Column("id", KEY, primary_key=True),
    *(sa.Column(name, KEY, nullable=False) for name in SERIES if name not in SERIES_SINCE_TAGS),
    *(sa.Column(name, KEY, nullable=False, server_default="") for name in SERIES_SINCE_TAGS),
)
"""What usage is added up by; ``id`` is the digest of the other columns."""

tagged_series = sa.Table(
    "tagged_series",
    METADATA,
    sa.Column("day", KEY, primary_key=True),
    sa.Column("tenant", KEY, primary_key=True),
    sa.Column("series", KEY, primary_key=True),
    sa.Index("ix_tagged_series_tenant", "tenant", "day"),
)
"""The series of a day that have a user or tags: so many a tenant may make, and no more."""

usage_totals = sa.Table(
    "usage_totals",
    METADATA,
    sa.Column("day", KEY, primary_key=True),
    sa.Column("series", KEY, primary_key=True),
    sa.Column("events", sa.BigInteger, nullable=False),
    *(sa.Column(meter, sa.BigInteger, nullable=False) for meter in METERS),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
    sa.Column("unpriced_lines", sa.BigInteger, nullable=False),
)
"""Sums over the events of a day (UTC, by their ends) that are not reversed."""

charge_totals = sa.Table(
    "charge_totals",
    METADATA,
    sa.Column("day", KEY, primary_key=True),
    sa.Column("series", KEY, primary_key=True),
    sa.Column("meter", KEY, primary_key=True),
    sa.Column("price", KEY, primary_key=True),
    sa.Column("quantity", sa.BigInteger, nullable=False),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
)
"""The same days, line by line: how much of a meter was sold at which pinned price (empty = none found)."""

volume_totals = sa.Table(
    "volume_totals",
    METADATA,
    sa.Column("tenant", KEY, primary_key=True),
    sa.Column("counter", KEY, primary_key=True),
    sa.Column("quantity", sa.BigInteger, nullable=False),
)
"""How much a tenant was sold by period and item, where the price goes by volume; less what is reversed."""

budget_totals = sa.Table(
    "budget_totals",
    METADATA,
    sa.Column("budget", KEY, primary_key=True),
    sa.Column("period", KEY, primary_key=True),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
    sa.Column("tokens", sa.BigInteger, nullable=False),
    sa.Column("device_seconds", sa.BigInteger, nullable=False),
)
"""What counts against a period of a Budget (by its uid), less what is reversed."""

budget_leases = sa.Table(
    "budget_leases",
    METADATA,
    sa.Column("budget", KEY, primary_key=True),
    sa.Column("period", KEY, primary_key=True),
    sa.Column("holder", KEY, primary_key=True),
    sa.Column("open", sa.BigInteger, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("change", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Index("ix_budget_leases_holder", "holder"),
)
"""What gateway processes hold of a period: ``billing.core.leases.Lease``."""

account_totals = sa.Table(
    "account_totals",
    METADATA,
    sa.Column("account", KEY, primary_key=True),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
)
"""The balance of every account."""

invoices = sa.Table(
    "invoices",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", KEY, nullable=False),
    sa.Column("tenant", KEY, nullable=False),
    sa.Column("begin_ms", sa.BigInteger, nullable=False),
    sa.Column("end_ms", sa.BigInteger, nullable=False),
    sa.Column("issued_ms", sa.BigInteger, nullable=False),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Index("ix_invoices_tenant", "tenant", "begin_ms"),
)
"""Invoices and credit notes as they were issued, append-only; ``number`` counts from 1 without gaps."""

outcomes = sa.Table(
    "outcomes",
    METADATA,
    sa.Column("tenant_uid", KEY, primary_key=True),
    sa.Column("id", KEY, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("tenant", KEY, nullable=False),
    sa.Column("project", KEY, nullable=False),
    sa.Column("work_tag", KEY, nullable=False),
    sa.Column("work_value", KEY, nullable=False),
    sa.Column("name", KEY, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("value_microcredits", sa.BigInteger, nullable=False),
    sa.Column("quality_millis", sa.BigInteger, nullable=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("day", KEY, nullable=False),
    sa.Column("recorded_ms", sa.BigInteger, nullable=False),
    sa.Column("withdrawn_ms", sa.BigInteger, nullable=True),
    sa.Column("tags", KEY, nullable=False),
    sa.Index("ix_outcomes_tenant_at_ms", "tenant", "at_ms"),
    sa.Index("ix_outcomes_recorded_ms", "tenant_uid", "recorded_ms"),
)
"""What work has brought: ``billing.core.outcomes.Outcome``. ``digest`` is that of what was said, ``tags`` a
sorted JSON object with the tag of the work."""

products = sa.Table(
    "products",
    METADATA,
    sa.Column("name", KEY, primary_key=True),
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)
"""What can be ordered: ``billing.core.products.Product``. An order keeps the product as it was."""

orders = sa.Table(
    "orders",
    METADATA,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("tenant", KEY, nullable=False),
    sa.Column("tenant_uid", KEY, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("ordered_ms", sa.BigInteger, nullable=False),
    sa.Column("microcredits", sa.BigInteger, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Index("ix_orders_tenant", "tenant", "ordered_ms"),
)
"""Orders as they were placed, append-only; ``id`` is ``tenant/id``."""

allotments = sa.Table(
    "allotments",
    METADATA,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("tenant", KEY, nullable=False),
    sa.Column("granted", sa.BigInteger, nullable=False),
    sa.Column("ends_ms", sa.BigInteger, nullable=False),
    sa.Column("used", sa.BigInteger, nullable=False),
    sa.Column("carried", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger, nullable=True),
    sa.Column("cancelled", sa.Integer, nullable=False),
    sa.Column("refund_microcredits", sa.BigInteger, nullable=False),
    sa.CheckConstraint("0 <= carried AND carried <= used AND used <= granted", name="ck_allotments_used"),
    sa.Index("ix_allotments_tenant", "tenant", "ended_ms"),
)
"""What usage has taken of an order by now: ``billing.core.allotments.Taken``; it ends once."""

vouchers = sa.Table(
    "vouchers",
    METADATA,
    sa.Column("digest", KEY, primary_key=True),
    sa.Column("name", KEY, nullable=False, unique=True),
    sa.Column("issued_ms", sa.BigInteger, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("order_id", KEY, nullable=True),
    sa.Column("voided_ms", sa.BigInteger, nullable=True),
)
"""Vouchers by the digests of their codes; ``order_id`` is set once, when one is redeemed."""
