"""What the SQL store keeps beside resources, bounded: events, answers to repeated writes, the audit log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from common.clock import Clock
from common.db import Database
from common.store.answers import Claim, Replay
from common.store.ownership import NOBODY_ELSE, Ownership, Viewer
from common.store.port import AuditEntry, Event, Limits
from common.store.rules import check_claim
from common.store.schema import answers, audit_log, events, resources, seen_by
from common.store.sql.prune import Bound, Pruner


class SqlNotes:
    """A part of ``SqlStore``."""

    def __init__(self, database: Database, clock: Clock, limits: Limits) -> None:
        self._database = database
        self._clock = clock
        self._events = Pruner(
            Bound((events.c.owner_tenant, events.c.owner_project), events.c.time_ms, limits.events)
        )
        self._answers = Pruner(
            Bound(
                (answers.c.tenant, answers.c.scope),
                answers.c.created_ms,
                limits.answers,
                answers.c.size_bytes,
                limits.answer_bytes,
            )
        )
        self._audit = Pruner(
            Bound((audit_log.c.tenant, audit_log.c.principal), audit_log.c.sequence, limits.audit_entries)
        )

    async def record(self, recorded: Sequence[Event]) -> None:
        if not recorded:
            return
        async with self._database.write() as connection:
            await self.record_in(connection, recorded)

    async def record_in(self, connection: AsyncConnection, recorded: Sequence[Event]) -> None:
        """Keep events in the transaction of ``connection``."""
        if not recorded:
            return
        owners = await _owners_now(connection, recorded)
        owned = [replace(event, owner=owner) for event, owner in zip(recorded, owners, strict=True)]
        await self.record_owned(connection, owned)

    async def record_owned(self, connection: AsyncConnection, recorded: Sequence[Event]) -> None:
        """The same of events that have their owners."""
        if not recorded:
            return
        rows = [_row_of(event) for event in recorded]
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        await connection.execute(insert(events).on_conflict_do_nothing(), rows)
        await self._events.wrote(connection, rows=len(rows))

    async def events(
        self,
        after: str | None,
        limit: int,
        kinds: Sequence[str],
        viewer: Viewer | None,
        wanted: Mapping[str, str | None],
        *,
        newest: bool = False,
    ) -> Sequence[Event]:
        """``wanted``: values of columns; None = any."""
        query = sa.select(events)
        for column, value in wanted.items():
            if value is not None:
                query = query.where(events.c[column] == value)
        if kinds:
            query = query.where(events.c.kind.in_(kinds))
        async with self._database.read() as connection:
            if after is not None:
                found = await connection.execute(sa.select(events.c.time_ms).where(events.c.id == after))
                start_ms = found.scalar_one_or_none()
                if start_ms is not None:
                    query = query.where(sa.tuple_(events.c.time_ms, events.c.id) > (start_ms, after))
            rows = await connection.execute(_in_order(query, limit, viewer, newest))
        told = [_event(row) for row in rows.mappings()]
        return told[::-1] if newest else told

    async def find_answer(self, claim: Claim) -> Replay | None:
        query = sa.select(answers).where(answers.c.scope == claim.scope, answers.c.key == claim.key)
        async with self._database.read() as connection:
            known = (await connection.execute(query)).one_or_none()
        if known is None:
            return None
        check_claim(claim, known.digest)
        return Replay(known.status, known.body)

    async def keep_answer(self, claim: Claim, replay: Replay) -> None:
        async with self._database.write() as connection:
            await self.insert_answer(connection, claim, replay)

    async def insert_answer(self, connection: AsyncConnection, claim: Claim, replay: Replay) -> None:
        """Keep the answer in the transaction of ``connection``."""
        size_bytes = len(replay.body.encode())
        row = {
            "scope": claim.scope,
            "key": claim.key,
            "tenant": claim.tenant,
            "digest": claim.digest,
            "status": replay.status,
            "body": replay.body,
            "size_bytes": size_bytes,
            "created_ms": self._clock.now_ms(),
        }
        await self._insert_new(connection, answers, row)
        await self._answers.wrote(connection, size_bytes=size_bytes)

    async def audit(self, entry: AuditEntry) -> None:
        """Not fenced: who does not lead refuses as well."""
        async with self._database.write(fenced=False) as connection:
            await connection.execute(
                sa.insert(audit_log).values(
                    id=entry.id,
                    time_ms=entry.time_ms,
                    principal=_storable(entry.principal),
                    action=entry.action,
                    target=_storable(entry.target),
                    outcome=entry.outcome,
                    tenant=entry.tenant,
                )
            )
            await self._audit.wrote(connection)

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


def _row_of(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "time_ms": event.time_ms,
        "level": event.level,
        "reason": event.reason,
        "message": _storable(event.message),
        "kind": event.kind,
        "name": event.name,
        "project": event.project,
        "data": json.dumps(dict(event.data)),
        "owner_tenant": event.owner.tenant,
        "owner_project": event.owner.project,
    }


async def _owners_now(connection: AsyncConnection, recorded: Sequence[Event]) -> list[Ownership]:
    """Whose each event is: its project's, or that of the resource that it tells of."""
    keys = [("Project", event.project) if event.project else (event.kind, event.name) for event in recorded]
    owners: dict[tuple[str, str], Ownership] = {}
    columns = (resources.c.owner_tenant, resources.c.owner_project)
    for kind, name in dict.fromkeys(keys):
        where = sa.and_(resources.c.kind == kind, resources.c.project == "", resources.c.name == name)
        row = (await connection.execute(sa.select(*columns).where(where))).one_or_none()
        owners[kind, name] = Ownership(*row) if row else NOBODY_ELSE
    return [owners[key] for key in keys]


def _in_order(
    query: sa.Select[Any], limit: int, viewer: Viewer | None, newest: bool
) -> sa.Select[Any] | sa.CompoundSelect[Any]:
    """The oldest rows of ``query`` first, or the newest; for a viewer found by the index of each kind of
    owner, so that rows of others are not read."""
    turn = sa.desc if newest else sa.asc
    in_order = (turn(events.c.time_ms), turn(events.c.id))
    if viewer is None:
        return query.order_by(*in_order).limit(limit)
    parts = [
        sa.select(query.where(seen).order_by(*in_order).limit(limit).subquery())
        for seen in seen_by(events, viewer)
    ]
    return sa.union_all(*parts).order_by(turn("time_ms"), turn("id")).limit(limit)


def _event(row: Mapping[str, Any]) -> Event:
    content = dict(row)
    owner = Ownership(content.pop("owner_tenant"), content.pop("owner_project"))
    return Event(**{**content, "data": json.loads(content["data"]), "owner": owner})


def _storable(text: str) -> str:
    """Text that every database takes: PostgreSQL refuses NUL, and UTF-8 has no lone surrogates."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
