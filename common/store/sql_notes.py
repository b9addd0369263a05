"""What the SQL store keeps beside resources: events, idempotency answers, the audit log; all bounded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from common.clock import Clock
from common.db import Database
from common.store.port import AuditEntry, Event, Limits, Replay
from common.store.rules import check_claim, not_claimed
from common.store.schema import audit_log, events, idempotency_keys

PRUNE_EVERY = 64


class SqlNotes:
    """A part of ``SqlStore``. The oldest rows go when a table is ``PRUNE_EVERY`` rows over its limit."""

    def __init__(self, database: Database, clock: Clock, limits: Limits) -> None:
        self._database = database
        self._clock = clock
        self._limits = limits
        self._writes: dict[str, int] = {}

    async def record(self, event: Event) -> None:
        row = {
            "id": event.id,
            "time_ms": event.time_ms,
            "level": event.level,
            "reason": event.reason,
            "message": _storable(event.message),
            "kind": event.kind,
            "name": event.name,
            "project": event.project,
            "data": json.dumps(dict(event.data)),
        }
        async with self._database.write() as connection:
            await self._insert_new(connection, events, row)
            await self._prune(connection, events.c.time_ms, self._limits.events)

    async def events(self, *, after: str | None, limit: int, **wanted: str | None) -> Sequence[Event]:
        """``wanted``: values of columns; None = any."""
        query = sa.select(events)
        for column, value in wanted.items():
            if value is not None:
                query = query.where(events.c[column] == value)
        async with self._database.read() as connection:
            if after is not None:
                found = await connection.execute(sa.select(events.c.time_ms).where(events.c.id == after))
                start_ms = found.scalar_one_or_none()
                if start_ms is not None:
                    query = query.where(sa.tuple_(events.c.time_ms, events.c.id) > (start_ms, after))
            rows = await connection.execute(query.order_by(events.c.time_ms, events.c.id).limit(limit))
        return [Event(**{**row, "data": json.loads(row["data"])}) for row in rows.mappings()]

    async def begin_idempotent(self, principal: str, key: str, body_digest: str) -> Replay | None:
        row = {
            "principal": principal,
            "key": key,
            "body_digest": body_digest,
            "created_ms": self._clock.now_ms(),
        }
        async with self._database.write() as connection:
            await self._insert_new(connection, idempotency_keys, row)
            query = sa.select(idempotency_keys).where(_claim(principal, key))
            known = (await connection.execute(query)).one()
            await self._prune(connection, idempotency_keys.c.created_ms, self._limits.idempotency_keys)
        check_claim(key, known.body_digest, body_digest)
        return None if known.status is None else Replay(known.status, known.body)

    async def finish_idempotent(self, principal: str, key: str, replay: Replay) -> None:
        values = {"status": replay.status, "body": replay.body}
        async with self._database.write() as connection:
            done = await connection.execute(
                sa.update(idempotency_keys).where(_claim(principal, key)).values(values)
            )
        if done.rowcount == 0:
            raise not_claimed(key)

    async def audit(self, entry: AuditEntry) -> None:
        async with self._database.write() as connection:
            await connection.execute(
                sa.insert(audit_log).values(
                    id=entry.id,
                    time_ms=entry.time_ms,
                    principal=_storable(entry.principal),
                    action=entry.action,
                    target=_storable(entry.target),
                    outcome=entry.outcome,
                )
            )
            await self._prune(connection, audit_log.c.sequence, self._limits.audit_entries)

    async def audit_log(self, *, limit: int = 100) -> Sequence[AuditEntry]:
        columns = [column for column in audit_log.c if column.name != "sequence"]
        query = sa.select(*columns).order_by(audit_log.c.sequence.desc()).limit(limit)
        async with self._database.read() as connection:
            rows = await connection.execute(query)
        return [AuditEntry(**row) for row in rows.mappings()]

    async def _insert_new(self, connection: AsyncConnection, table: sa.Table, row: dict[str, Any]) -> None:
        """Insert the row unless its key is there already."""
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        await connection.execute(insert(table).values(row).on_conflict_do_nothing())

    async def _prune(self, connection: AsyncConnection, order: sa.Column[int], keep: int) -> None:
        """Once in a while, delete the rows below the ``keep`` highest of ``order``."""
        table = order.table
        count = self._writes.get(str(table), 0)
        self._writes[str(table)] = count + 1
        if count % PRUNE_EVERY == 0:
            oldest_kept = sa.select(order).order_by(order.desc()).offset(keep - 1).limit(1).scalar_subquery()
            await connection.execute(sa.delete(table).where(order < oldest_kept))


def _claim(principal: str, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(idempotency_keys.c.principal == principal, idempotency_keys.c.key == key)


def _storable(text: str) -> str:
    """Text that every database takes: PostgreSQL refuses NUL, and UTF-8 has no lone surrogates."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
