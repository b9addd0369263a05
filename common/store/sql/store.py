"""The store in SQL: SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from common.clock import SYSTEM_CLOCK, Clock
from common.db import Database, Mark, text_bytes
from common.errors import ComputilityError
from common.loop import in_turns
from common.resources import Resource
from common.store.answers import Answer, Claim, Replay
from common.store.ownership import Viewer
from common.store.port import (
    Applied,
    AuditEntry,
    Change,
    Delete,
    Event,
    KindSize,
    Limits,
    Put,
    R,
    SpecRevision,
    StatusWrite,
    Write,
)
from common.store.rules import not_found
from common.store.schema import resources, store_revision
from common.store.set_aside import SetAside, read_document, what_is_wrong
from common.store.sql.batch import SqlBatch
from common.store.sql.history import SqlHistory
from common.store.sql.known_kinds import KnownKinds
from common.store.sql.notes import SqlNotes
from common.store.sql.revisions import read_revisions
from common.store.sql.statuses import SqlStatuses
from common.store.sql.turns import SqlTurns, Transaction
from common.telemetry import get_logger

_log = get_logger(__name__)
POLL_SECONDS = 1.0
"""How often it is looked what other processes have written."""
LONGEST_UNREAD_SECONDS = 15.0
"""So often the database is read for that, whatever its file says."""
_REVISION = sa.select(store_revision.c.value).where(store_revision.c.id == 1)
_LOCK = _REVISION.with_for_update()
_MOVE = sa.update(store_revision).where(store_revision.c.id == 1).values(value=sa.bindparam("revision"))


class SqlStore:
    """Implements ``common.store.port.Store``. Several stores, in several processes, may share one database.

    ``wait`` wakes at once for writes made through this object and within a second for those of others.
    """

    def __init__(self, database: Database, clock: Clock = SYSTEM_CLOCK, limits: Limits | None = None) -> None:
        self._database = database
        self._clock = clock
        limits = limits or Limits()
        self._notes = SqlNotes(database, clock, limits)
        self._history = SqlHistory(limits)
        self._turns = SqlTurns(self._begin, self._history, self._notes, clock)
        self._changed = asyncio.Condition()
        self._kinds = KnownKinds()
        self._looked_seconds = self._read_seconds = -POLL_SECONDS
        self._mark: Mark | None = None

    async def get(self, kind: type[R], name: str, project: str | None = None) -> R:
        found = await self.find(kind, name, project)
        if found is None:
            raise not_found(kind.__name__, name, project)
        return found

    async def find(self, kind: type[R], name: str, project: str | None = None) -> R | None:
        async with self._database.read() as connection:
            row = await _row(connection, kind.__name__, name, project)
        return cast(R | None, read_document(kind.__name__, row.document)) if row else None

    async def list(
        self, kind: type[R], *, project: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[R]:
        query = sa.select(resources.c.document).where(resources.c.kind == kind.__name__)
        if project is not None:
            query = query.where(resources.c.project == project)
        async with self._database.read() as connection:
            documents = await connection.scalars(query.order_by(resources.c.project, resources.c.name))
        wanted, found = (labels or {}).items(), list[R]()
        async for document in in_turns(documents):
            resource = cast(R | None, read_document(kind.__name__, document))
            if resource is not None and wanted <= resource.metadata.labels.items():
                found.append(resource)
        return found

    async def set_aside(self, kind: type[Resource] | None = None) -> Sequence[SetAside]:
        columns = (resources.c.kind, resources.c.project, resources.c.name, resources.c.document)
        query = sa.select(*columns).order_by(resources.c.kind, resources.c.project, resources.c.name)
        if kind is not None:
            query = query.where(resources.c.kind == kind.__name__)
        async with self._database.read() as connection:
            rows = await connection.execute(query)
        return [
            SetAside(row.kind, row.name, row.project or None, reason)
            async for row in in_turns(rows)
            if (reason := what_is_wrong(row.kind, row.document))
        ]

    async def remove_set_aside(self, kind: str, name: str, project: str | None = None) -> SetAside:
        async with self._database.write() as connection:
            row = await _row(connection, kind, name, project)
            reason = what_is_wrong(kind, row.document) if row else ""
            if not reason:
                raise not_found(kind, name, project)
            await connection.execute(sa.delete(resources).where(_is(kind, name, project)))
        return SetAside(kind, name, project, reason)

    async def sizes(self, project: str) -> Mapping[str, KindSize]:
        columns = (sa.func.count(), sa.func.sum(text_bytes(resources.c.document)))
        query = sa.select(resources.c.kind, *columns).where(resources.c.project == project)
        async with self._database.read() as connection:
            rows = await connection.execute(query.group_by(resources.c.kind))
        return {kind: KindSize(count, int(size)) for kind, count, size in rows}

    async def write_all(
        self, writes: Sequence[Write], *, dry_run: bool = False, answer: Answer | None = None
    ) -> Sequence[Applied[Resource]]:
        return await (self._try_all(writes) if dry_run else self._turns.write(writes, answer))

    async def _try_all(self, writes: Sequence[Write]) -> Sequence[Applied[Resource]]:
        async with self._database.read() as connection:
            batch = SqlBatch(connection, self._clock, await _revision(connection))
            await batch.read(writes)
        return batch.write(writes)

    async def apply(self, resource: R, *, dry_run: bool = False, answer: Answer | None = None) -> Applied[R]:
        [applied] = await self.write_all([Put(resource)], dry_run=dry_run, answer=answer)
        return cast(Applied[R], applied)

    async def set_status(self, resource: R) -> R:
        async with self._begin() as transaction:
            batch = SqlBatch(transaction.connection, self._clock, transaction.revision)
            await batch.read([Put(resource)])
            stored = batch.set_status(resource)
            transaction.dropped = await batch.flush(self._history)
            transaction.noted, transaction.revision = batch.noted, batch.revision
        return stored

    async def set_statuses(
        self, writes: Sequence[StatusWrite]
    ) -> Sequence[Resource | ComputilityError | None]:
        async with self._begin() as transaction:
            statuses = SqlStatuses(transaction.connection, self._history)
            results = await statuses.write(writes, transaction.revision)
            kept = (
                told
                for told, result in zip(writes, results, strict=True)
                if not isinstance(result, ComputilityError)
            )
            await self._notes.record_in(
                transaction.connection, [event for told in kept for event in told.events]
            )
            transaction.noted, transaction.revision = statuses.noted, statuses.revision
            transaction.dropped = statuses.dropped
        return results

    async def delete(
        self,
        kind: type[R],
        name: str,
        project: str | None = None,
        *,
        resource_version: int = 0,
        dry_run: bool = False,
        answer: Answer | None = None,
    ) -> R:
        wanted = Delete(kind, name, project, resource_version)
        [deleted] = await self.write_all([wanted], dry_run=dry_run, answer=answer)
        return cast(R, deleted.resource)

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[Transaction]:
        """The store's write lock, held to the end of the transaction; wakes ``wait`` after a change."""
        async with self._database.write() as connection:
            before = (await connection.execute(_LOCK)).scalar_one()
            transaction = Transaction(connection, before)
            yield transaction
            if transaction.revision > before:
                await connection.execute(_MOVE, {"revision": transaction.revision})
        if transaction.revision > before:
            self._kinds.wrote(before, transaction.revision, transaction.noted)
            async with self._changed:
                self._changed.notify_all()
        if transaction.dropped:
            await self._shrink()

    async def _shrink(self) -> None:
        """What was written is there, whether or not the file can be made smaller now."""
        try:
            await self._database.shrink()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody's write has failed
            _log.warning("free pages of the database are not given back", error=str(error))

    async def revisions(self, uid: str) -> Sequence[SpecRevision]:
        async with self._database.read() as connection:
            return await read_revisions(connection, uid)

    async def revision(self) -> int:
        began = asyncio.get_running_loop().time()
        revision = await self._database.read_number(_REVISION)
        self._looked_seconds = max(self._looked_seconds, began)
        self._kinds.saw(revision)
        return revision

    async def changes(
        self,
        since: int,
        *,
        kinds: Sequence[str] = (),
        limit: int = 500,
        viewer: Viewer | None = None,
        known: Collection[int] = (),
    ) -> Sequence[Change]:
        if kinds and since < self._kinds.end and not self._kinds.may_have_changed(since, kinds):
            return []
        async with self._database.read() as connection:
            return await self._history.changes(connection, since, kinds, limit, viewer, known)

    async def wait(self, since: int, timeout_seconds: float, kinds: Sequence[str] = ()) -> int:
        """All who wait look at the database together, once in ``POLL_SECONDS``: own writes are known."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_seconds
        async with self._changed:
            while True:
                if clock() >= self._looked_seconds + POLL_SECONDS:
                    await self._look()
                if self._kinds.may_have_changed(since, kinds) or clock() >= deadline:
                    return self._kinds.end
                until = min(deadline, self._looked_seconds + POLL_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(until - clock()):
                        await self._changed.wait()

    async def _look(self) -> None:
        """Learn what others have written: from the database, but now and then only while its file says that
        nothing was."""
        now, mark = asyncio.get_running_loop().time(), self._database.mark()
        if mark is not None and mark == self._mark and now < self._read_seconds + LONGEST_UNREAD_SECONDS:
            self._looked_seconds = now
            return
        await self.revision()
        self._mark, self._read_seconds = mark, now

    async def record(self, *events: Event) -> None:
        await self._notes.record(events)

    async def events(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        project: str | None = None,
        reason: str | None = None,
        after: str | None = None,
        limit: int = 100,
        kinds: Sequence[str] = (),
        viewer: Viewer | None = None,
        newest: bool = False,
    ) -> Sequence[Event]:
        wanted = {"kind": kind, "name": name, "project": project, "reason": reason}
        return await self._notes.events(after, limit, kinds, viewer, wanted, newest=newest)

    async def find_answer(self, claim: Claim) -> Replay | None:
        return await self._notes.find_answer(claim)

    async def keep_answer(self, claim: Claim, replay: Replay) -> None:
        await self._notes.keep_answer(claim, replay)

    async def audit(self, entry: AuditEntry) -> None:
        await self._notes.audit(entry)

    async def audit_log(self, *, limit: int = 100) -> Sequence[AuditEntry]:
        return await self._notes.audit_log(limit=limit)

    async def close(self) -> None:
        await self._turns.close()
        await self._database.close()


def _is(kind: str, name: str, project: str | None) -> sa.ColumnElement[bool]:
    return sa.and_(resources.c.kind == kind, resources.c.project == (project or ""), resources.c.name == name)


async def _revision(connection: AsyncConnection) -> int:
    value: int = (await connection.execute(_REVISION)).scalar_one()
    return value


async def _row(connection: AsyncConnection, kind: str, name: str, project: str | None) -> Any:
    columns = (resources.c.document, resources.c.owner_tenant, resources.c.owner_project)
    return (await connection.execute(sa.select(*columns).where(_is(kind, name, project)))).one_or_none()
