"""One row per transaction, totals beside the events, and a database that refuses to change what was posted"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
METERS = ("prompt_tokens", "cached_tokens", "completion_tokens", "trained_tokens", "device_seconds")
SERIES = ("tenant", "project", "key", "model", "model_identity", "kind", "device_class")
PRICE = ("book", "version", "meter", "model", "device_class", "microcredits_per_million")
EVENT_COLUMNS = (
    *("id", "digest", "document", "day", "ended_ms", "posted_ms", "microcredits", "unpriced_lines"),
    *SERIES,
    *METERS,
)
JOURNAL_COLUMNS = ("event_id", "type", "posted_ms", "reason", "entries")


def upgrade() -> None:
    _create()
    _move_prices()
    _move_journal()
    _fill_totals()
    op.execute("DROP TABLE _pins")
    op.execute("DROP TABLE _series")
    op.drop_table("journal_entries")
    op.drop_table("journal_transactions")
    _guard()


def _create() -> None:
    op.create_table(
        "journal",
        sa.Column("event_id", KEY, primary_key=True),
        sa.Column("type", KEY, primary_key=True),
        sa.Column("posted_ms", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("entries", sa.Text(), nullable=False),
    )
    op.create_table(
        "prices_pinned",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("document", sa.Text(), nullable=False),
    )
    op.create_table(
        "usage_series",
        sa.Column("id", KEY, primary_key=True),
        *(sa.Column(name, KEY, nullable=False) for name in SERIES),
    )
    _create_totals("usage_totals", ("day", "series"), ("events", *METERS, "microcredits", "unpriced_lines"))
    _create_totals("charge_totals", ("day", "series", "meter", "price"), ("quantity", "microcredits"))
    _create_totals("account_totals", ("account",), ("microcredits",))


def _create_totals(table: str, keys: Sequence[str], sums: Sequence[str]) -> None:
    """A sum that does not fit 64 bits is refused; SQLite would make it a float."""
    whole = " AND ".join(f"typeof({name}) = 'integer'" for name in sums)
    checked = [sa.CheckConstraint(whole)] if op.get_bind().dialect.name == "sqlite" else []
    op.create_table(
        table,
        *(sa.Column(name, KEY, primary_key=True) for name in keys),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in sums),
        *checked,
    )


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _move_prices() -> None:
    """Every price that a line names, and for a while which it is by its columns."""
    connection = op.get_bind()
    pins = _temporary("_pins", (*PRICE, "id"), whole=("version", "microcredits_per_million"))
    named = ", ".join(f"price_{name}" for name in PRICE)
    query = f"SELECT DISTINCT {named} FROM journal_entries WHERE price_book IS NOT NULL"
    for row in connection.execute(sa.text(query)).all():
        content = dict(zip(PRICE, row, strict=True))
        document = json.dumps(content, sort_keys=True, separators=(",", ":"))
        connection.execute(pins.insert().values(**content, id=_digest(content)))
        insert = sa.text("INSERT INTO prices_pinned (id, document) VALUES (:id, :document)")
        connection.execute(insert, {"id": _digest(content), "document": document})


def _temporary(name: str, columns: Sequence[str], whole: Sequence[str] = ()) -> sa.Table:
    types = [sa.Column(column, sa.BigInteger() if column in whole else KEY) for column in columns]
    return op.create_table(name, *types, prefixes=["TEMPORARY"])


_SAME_PRICE = " AND ".join(f"p.{name} = e.price_{name}" for name in PRICE)


def _move_journal() -> None:
    line = "e.account, e.microcredits, e.meter, e.quantity, p.id"
    if op.get_bind().dialect.name == "sqlite":
        short = "json_array(e.account, e.microcredits)"
        entry = f"CASE WHEN e.meter IS NULL THEN {short} ELSE json_array({line}) END"
        entries = "json_group_array(json(entry))"
    else:
        short = "json_build_array(e.account, e.microcredits)"
        entry = f"CASE WHEN e.meter IS NULL THEN {short} ELSE json_build_array({line}) END"
        entries = "json_agg(entry ORDER BY number)::text"
    op.execute(
        f"INSERT INTO journal (event_id, type, posted_ms, reason, entries) "
        f"SELECT t.event_id, t.type, t.posted_ms, t.reason, ("
        f"SELECT {entries} FROM (SELECT e.number AS number, {entry} AS entry FROM journal_entries e "
        f"LEFT JOIN _pins p ON {_SAME_PRICE} WHERE e.transaction_id = t.id ORDER BY e.number) AS ordered"
        f") FROM journal_transactions t"
    )


def _fill_totals() -> None:
    connection = op.get_bind()
    series = _temporary("_series", (*SERIES, "id"))
    named = ", ".join(SERIES)
    for row in connection.execute(sa.text(f"SELECT DISTINCT {named} FROM usage_events")).all():
        values = {**dict(zip(SERIES, row, strict=True)), "id": _digest(list(row))}
        connection.execute(series.insert().values(**values))
    op.execute(f"INSERT INTO usage_series (id, {named}) SELECT id, {named} FROM _series")
    same = " AND ".join(f"s.{name} = u.{name}" for name in SERIES)
    meters = ", ".join(METERS)
    sums = ", ".join(f"SUM(u.{meter})" for meter in METERS)
    op.execute(
        f"INSERT INTO usage_totals (day, series, events, {meters}, microcredits, unpriced_lines) "
        f"SELECT u.day, s.id, COUNT(*), {sums}, SUM(u.microcredits), SUM(u.unpriced_lines) "
        f"FROM usage_events u JOIN _series s ON {same} WHERE u.reversed_ms IS NULL GROUP BY u.day, s.id"
    )
    op.execute(
        f"INSERT INTO charge_totals (day, series, meter, price, quantity, microcredits) "
        f"SELECT u.day, s.id, e.meter, COALESCE(p.id, ''), SUM(e.quantity), -SUM(e.microcredits) "
        f"FROM usage_events u JOIN _series s ON {same} "
        f"JOIN journal_transactions t ON t.event_id = u.id "
        f"JOIN journal_entries e ON e.transaction_id = t.id LEFT JOIN _pins p ON {_SAME_PRICE} "
        f"WHERE u.reversed_ms IS NULL AND e.meter IS NOT NULL "
        f"GROUP BY u.day, s.id, e.meter, COALESCE(p.id, '')"
    )
    op.execute(
        "INSERT INTO account_totals (account, microcredits) "
        "SELECT account, SUM(microcredits) FROM journal_entries GROUP BY account"
    )


def _guard() -> None:
    """Triggers that refuse to change or remove what was posted; they cost nothing where nothing is wrong."""
    guard = _guard_sqlite if op.get_bind().dialect.name == "sqlite" else _guard_postgres
    guard("usage_events", EVENT_COLUMNS, ("id",))
    guard("journal", JOURNAL_COLUMNS, ("event_id", "type"))
    guard("prices_pinned", ("id", "document"), ("id",))


def _guard_sqlite(table: str, columns: Sequence[str], keys: Sequence[str]) -> None:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    op.execute(f"CREATE TRIGGER {table}_kept BEFORE DELETE ON {table} {refuse}")
    op.execute(f"CREATE TRIGGER {table}_fixed BEFORE UPDATE OF {', '.join(columns)} ON {table} {refuse}")
    if table == "usage_events":
        once = "WHEN OLD.reversed_ms IS NOT NULL OR NEW.reversed_ms IS NULL"
        op.execute(f"CREATE TRIGGER {table}_once BEFORE UPDATE OF reversed_ms ON {table} {once} {refuse}")
    # REPLACE removes rows without a word to the trigger of DELETE.
    same = " AND ".join(f"{key} = NEW.{key}" for key in keys)
    there = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})"
    skip = "BEGIN SELECT RAISE(IGNORE); END" if table == "prices_pinned" else refuse
    op.execute(f"CREATE TRIGGER {table}_new BEFORE INSERT ON {table} {there} {skip}")


def _guard_postgres(table: str, columns: Sequence[str], _keys: Sequence[str]) -> None:
    op.execute(
        f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE EXCEPTION '{table} is append-only' USING ERRCODE = 'restrict_violation'; END $$"
    )
    run = f"EXECUTE FUNCTION {table}_refuse()"
    op.execute(f"CREATE TRIGGER {table}_kept BEFORE DELETE ON {table} FOR EACH ROW {run}")
    op.execute(f"CREATE TRIGGER {table}_whole BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {run}")
    op.execute(
        f"CREATE TRIGGER {table}_fixed BEFORE UPDATE OF {', '.join(columns)} ON {table} FOR EACH ROW {run}"
    )
    if table == "usage_events":
        once = "WHEN (OLD.reversed_ms IS NOT NULL OR NEW.reversed_ms IS NULL)"
        op.execute(
            f"CREATE TRIGGER {table}_once BEFORE UPDATE OF reversed_ms ON {table} FOR EACH ROW {once} {run}"
        )


def downgrade() -> None:
    raise NotImplementedError("what was posted since then has no place in the tables of before")
