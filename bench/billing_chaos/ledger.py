"""What lies in the ledger's tables, read as they are, and whether they agree with each other."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from bench.billing_chaos.records import Billed
from billing.core.events import METERS
from billing.core.reconciliation import EventGroup
from billing.store import schema
from billing.store.engines import engine_use
from common.db import Database

_TABLES = (
    *(schema.usage_events, schema.journal, schema.account_totals),
    *(schema.usage_totals, schema.charge_totals, schema.budget_totals),
)
Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""The rows of each table, by its name."""


@dataclass(frozen=True)
class Books:
    """All of a ledger that is compared: ``requests`` are events of inference, ``training`` the trained tokens
    of the events of each job, ``faults`` where tables do not agree, ``budget_tokens`` what counts against
    budgets."""

    requests: Sequence[Billed]
    training: Mapping[str, Sequence[int]]
    device_seconds: int
    microcredits: int
    faults: Sequence[str]
    budget_tokens: int = 0


async def used_between(url: str, from_ms: int, to_ms: int) -> Mapping[tuple[str, str], Sequence[EventGroup]]:
    """What each engine has to have counted, by the events of the database at ``url``."""
    database = Database(url)
    try:
        async with database.read() as connection:
            return await engine_use(connection, from_ms, to_ms)
    finally:
        await database.close()


async def read_books(url: str) -> Books:
    """The whole ledger of the database at ``url``."""
    database, rows = Database(url), dict[str, Sequence[Mapping[str, Any]]]()
    try:
        async with database.read() as connection:
            for table in _TABLES:
                found = await connection.execute(sa.select(table))
                rows[table.name] = [dict(row._mapping) for row in found]
    finally:
        await database.close()
    return books_of(rows)


def books_of(rows: Rows) -> Books:
    """The same, of rows that were read."""
    requests, training, device_seconds = list[Billed](), defaultdict[str, list[int]](list), 0
    for row in rows["usage_events"]:
        document = json.loads(row["document"])
        if row["kind"] == "inference":
            counts = row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]
            request_id = document["labels"].get("request_id", "")
            requests.append(Billed(row["id"], request_id, document["outcome"], *counts, row["key"]))
        elif row["kind"] == "training":
            training[document["resource"]].append(row["trained_tokens"])
        device_seconds += row["device_seconds"]
    return Books(
        requests,
        training,
        device_seconds,
        sum(row["microcredits"] for row in rows["usage_events"]),
        _faults(rows),
        sum(row["tokens"] for row in rows["budget_totals"]),
    )


def _faults(rows: Rows) -> list[str]:
    events, journal = rows["usage_events"], rows["journal"]
    accounts, faults = defaultdict[str, int](int), list[str]()
    for row in journal:
        entries = json.loads(row["entries"])
        if sum(entry[1] for entry in entries):
            faults.append(f"{row['event_id']}: the entries do not add up to 0")
        for entry in entries:
            accounts[entry[0]] += entry[1]
    posted = sorted(row["event_id"] for row in journal if row["type"] == "usage")
    if posted != sorted(row["id"] for row in events):
        faults.append(f"{len(events)} events, {len(posted)} of them in the journal")
    totals = {row["account"]: row["microcredits"] for row in rows["account_totals"]}
    if {name: sum_ for name, sum_ in accounts.items() if sum_} != {n: s for n, s in totals.items() if s}:
        faults.append("the accounts' balances are not the sums of the journal")
    if sum(totals.values()):
        faults.append(f"all accounts add up to {sum(totals.values())}")
    for name in (*METERS, "microcredits"):
        counted = sum(row[name] for row in events), sum(row[name] for row in rows["usage_totals"])
        if counted[0] != counted[1]:
            faults.append(f"{name}: events say {counted[0]}, totals {counted[1]}")
    charged = sum(row["microcredits"] for row in rows["charge_totals"])
    if charged != sum(row["microcredits"] for row in events):
        faults.append(f"charges add up to {charged}")
    return faults
