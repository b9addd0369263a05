"""The store in SQL: SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from common.clock import SYSTEM_CLOCK, Clock
from common.db import Database
from common.resources import KINDS, Resource
from common.store.port import Applied, AuditEntry, Change, Event, Limits, R, Replay
from common.store.rules import check_horizon, check_version, not_found, plan_apply, plan_status
from common.store.schema import resource_history, resources, store_revision
from common.store.sql_notes import SqlNotes

POLL_SECONDS = 1.0
PRUNE_EVERY = 64


@dataclass
class _Write:
    """A transaction that holds the write lock of the store."""

    connection: AsyncConnection
    revision: int
    changed: bool = False

    @property
    def next_revision(self) -> int:
        return self.revision + 1


class SqlStore:
    """Implements ``common.store.port.Store``. Several stores, in several processes, may share one database.

    ``wait`` wakes at once for writes made through this object and within a second for those of others.
    """

    def __init__(self, database: Database, clock: Clock = SYSTEM_CLOCK, limits: Limits | None = None) -> None:
        self._database = database
        self._clock = clock
        self._limits = limits or Limits()
        self._notes = SqlNotes(database, clock, self._limits)
        self._changed = asyncio.Condition()

    async def get(self, kind: type[R], name: str, project: str | None = None) -> R:
        found = await self.find(kind, name, project)
        if found is None:
            raise not_found(kind.__name__, name, project)
        return found

    async def find(self, kind: type[R], name: str, project: str | None = None) -> R | None:
        async with self._database.read() as connection:
            return await _find(connection, kind, name, project)

    async def list(
        self, kind: type[R], *, project: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[R]:
        query = sa.select(resources.c.document).where(resources.c.kind == kind.__name__)
        if project is not None:
            query = query.where(resources.c.project == project)
        async with self._database.read() as connection:
            documents = await connection.scalars(query.order_by(resources.c.project, resources.c.name))
        wanted = (labels or {}).items()
        found = [cast(R, _load(kind.__name__, document)) for document in documents]
        return [r for r in found if wanted <= r.metadata.labels.items()]

    async def apply(self, resource: R, *, dry_run: bool = False) -> Applied[R]:
        kind = type(resource)
        if dry_run:
            old = await self.find(kind, resource.name, resource.project)
            return plan_apply(old, resource, await self.revision() + 1, self._clock)
        async with self._write() as write:
            old = await _find(write.connection, kind, resource.name, resource.project)
            applied = plan_apply(old, resource, write.next_revision, self._clock)
            if applied.outcome != "unchanged":
                await _put(write, applied.resource)
        return applied

    async def set_status(self, resource: R) -> R:
        async with self._write() as write:
            old = await _find(write.connection, type(resource), resource.name, resource.project)
            merged = plan_status(old, resource, write.next_revision)
            if merged is None:
                return cast(R, old)
            await _put(write, merged)
        return merged

    async def delete(
        self,
        kind: type[R],
        name: str,
        project: str | None = None,
        *,
        resource_version: int = 0,
        dry_run: bool = False,
    ) -> R:
        async with self._write() as write:
            old = await _find(write.connection, kind, name, project)
            if old is None:
                raise not_found(kind.__name__, name, project)
            wanted = old.copy_deep()
            wanted.metadata.resource_version = resource_version
            check_version(old, wanted)
            if not dry_run:
                await write.connection.execute(sa.delete(resources).where(_is(kind, name, project)))
                await _note(write, "delete", old)
        return old

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[_Write]:
        """The store's write lock, held to the end of the transaction; wakes ``wait`` after a change."""
        async with self._database.write() as connection:
            query = sa.select(store_revision.c.value).where(store_revision.c.id == 1).with_for_update()
            write = _Write(connection, (await connection.execute(query)).scalar_one())
            yield write
            if write.changed:
                await self._prune_history(write)
        if write.changed:
            async with self._changed:
                self._changed.notify_all()

    async def _prune_history(self, write: _Write) -> None:
        if write.revision % PRUNE_EVERY == 0:
            horizon = write.revision - self._limits.history
            await write.connection.execute(
                sa.delete(resource_history).where(resource_history.c.revision <= horizon)
            )

    async def revision(self) -> int:
        async with self._database.read() as connection:
            return await _revision(connection)

    async def changes(self, since: int, *, kinds: Sequence[str] = (), limit: int = 500) -> Sequence[Change]:
        query = sa.select(resource_history).where(resource_history.c.revision > since)
        if kinds:
            query = query.where(resource_history.c.kind.in_(kinds))
        async with self._database.read() as connection:
            check_horizon(since, await _revision(connection) - self._limits.history)
            rows = await connection.execute(query.order_by(resource_history.c.revision).limit(limit))
        return [Change(row.revision, row.type, _load(row.kind, row.document)) for row in rows]

    async def wait(self, since: int, timeout_seconds: float) -> int:
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while True:
            async with self._changed:
                # Read under the lock: a write that the read misses notifies after it.
                revision = await self.revision()
                left = deadline - asyncio.get_running_loop().time()
                if revision > since or left <= 0:
                    return revision
                try:
                    async with asyncio.timeout(min(left, POLL_SECONDS)):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def record(self, event: Event) -> None:
        await self._notes.record(event)

    async def events(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        project: str | None = None,
        reason: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Sequence[Event]:
        return await self._notes.events(
            kind=kind, name=name, project=project, reason=reason, after=after, limit=limit
        )

    async def begin_idempotent(self, principal: str, key: str, body_digest: str) -> Replay | None:
        return await self._notes.begin_idempotent(principal, key, body_digest)

    async def finish_idempotent(self, principal: str, key: str, replay: Replay) -> None:
        await self._notes.finish_idempotent(principal, key, replay)

    async def audit(self, entry: AuditEntry) -> None:
        await self._notes.audit(entry)

    async def audit_log(self, *, limit: int = 100) -> Sequence[AuditEntry]:
        return await self._notes.audit_log(limit=limit)

    async def close(self) -> None:
        await self._database.close()


def _is(kind: type[Resource], name: str, project: str | None) -> sa.ColumnElement[bool]:
    return sa.and_(
        resources.c.kind == kind.__name__, resources.c.project == (project or ""), resources.c.name == name
    )


async def _revision(connection: AsyncConnection) -> int:
    query = sa.select(store_revision.c.value).where(store_revision.c.id == 1)
    value: int = (await connection.execute(query)).scalar_one()
    return value


async def _find(connection: AsyncConnection, kind: type[R], name: str, project: str | None) -> R | None:
    document = await connection.scalar(sa.select(resources.c.document).where(_is(kind, name, project)))
    return None if document is None else cast(R, _load(kind.__name__, document))


async def _put(write: _Write, resource: Resource) -> None:
    row: dict[str, Any] = {
        "resource_version": resource.metadata.resource_version,
        "document": _dump(resource),
    }
    where = _is(type(resource), resource.name, resource.project)
    updated = await write.connection.execute(sa.update(resources).where(where).values(row))
    if updated.rowcount == 0:
        key = {"kind": resource.kind, "project": resource.project or "", "name": resource.name}
        await write.connection.execute(sa.insert(resources).values(**key, **row))
    await _note(write, "put", resource)


async def _note(write: _Write, type_: str, resource: Resource) -> None:
    """Give the next revision to this change and keep it."""
    write.revision += 1
    write.changed = True
    await write.connection.execute(
        sa.update(store_revision).where(store_revision.c.id == 1).values(value=write.revision)
    )
    await write.connection.execute(
        sa.insert(resource_history).values(
            revision=write.revision, type=type_, kind=resource.kind, document=_dump(resource)
        )
    )


def _dump(resource: Resource) -> str:
    return json.dumps(resource.to_dict(), ensure_ascii=False, separators=(",", ":"))


def _load(kind: str, document: str) -> Resource:
    return KINDS[kind].model_validate_json(document, strict=False)
