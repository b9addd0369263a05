"""The history of the SQL store: every change with whose it was, bounded in rows and bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from common.store.fairness import Group
from common.store.ownership import EVERYBODY, Ownership, Viewer
from common.store.port import Change, Limits
from common.store.rules import check_horizon
from common.store.schema import history_horizons, owned_by, resource_history, seen_by
from common.store.set_aside import read_document
from common.store.sql.prune import Bound, Pruner


@dataclass(frozen=True)
class Noted:
    """A change to keep: ``document`` is the resource as JSON."""

    revision: int
    type: Literal["put", "delete"]
    kind: str
    document: str
    owner: Ownership


class SqlHistory:
    """A part of ``SqlStore``."""

    def __init__(self, limits: Limits) -> None:
        columns = resource_history.c
        self._pruner = Pruner(
            Bound(
                group=(columns.owner_tenant, columns.owner_project),
                order=columns.revision,
                rows=limits.history,
                size=columns.size_bytes,
                size_bytes=limits.history_bytes,
            )
        )

    async def note(
        self,
        connection: AsyncConnection,
        revision: int,
        type_: Literal["put", "delete"],
        kind: str,
        document: str,
        owner: Ownership,
    ) -> bool:
        """Keep a change, and drop old ones when there are too many; whether any were dropped."""
        return await self.note_all(connection, [Noted(revision, type_, kind, document, owner)])

    async def note_all(self, connection: AsyncConnection, changes: Sequence[Noted]) -> bool:
        """The same of several changes."""
        rows = [
            {
                "revision": change.revision,
                "type": change.type,
                "kind": change.kind,
                "document": change.document,
                "owner_tenant": change.owner.tenant,
                "owner_project": change.owner.project,
                "size_bytes": len(change.document.encode()),
            }
            for change in changes
        ]
        await connection.execute(sa.insert(resource_history), rows)
        size_bytes = sum(int(row["size_bytes"]) for row in rows)
        dropped = await self._pruner.wrote(connection, len(rows), size_bytes)
        if dropped:
            await self._move_horizons(connection, dropped)
        return bool(dropped)

    async def _move_horizons(self, connection: AsyncConnection, dropped: Mapping[Group, int]) -> None:
        """Remember up to where changes of these owners are gone. What is older than all that is kept is gone
        for everybody, so that owners without a history take no room."""
        oldest = await connection.scalar(sa.select(sa.func.min(resource_history.c.revision)))
        everybody, floor = (EVERYBODY, ""), (oldest or 1) - 1
        horizons = {**dropped, everybody: max(floor, dropped.get(everybody, 0))}
        table = history_horizons
        for (tenant, project), horizon in horizons.items():
            where = owned_by(table, tenant, project)
            known = await connection.scalar(sa.select(table.c.revision).where(where))
            row = {"owner_tenant": tenant, "owner_project": project, "revision": max(horizon, known or 0)}
            await connection.execute(sa.delete(table).where(where))
            await connection.execute(sa.insert(table).values(row))
        outdated = sa.and_(table.c.revision <= floor, table.c.owner_tenant != EVERYBODY)
        await connection.execute(sa.delete(table).where(outdated))

    async def changes(
        self,
        connection: AsyncConnection,
        since: int,
        kinds: Sequence[str],
        limit: int,
        viewer: Viewer | None,
        known: Collection[int] = (),
    ) -> Sequence[Change]:
        """See ``Store.changes``."""
        horizon = sa.select(sa.func.max(history_horizons.c.revision))
        query = sa.select(resource_history).where(resource_history.c.revision > since)
        if viewer is not None:
            horizon = horizon.where(sa.or_(*seen_by(history_horizons, viewer)))
            query = query.where(sa.or_(*seen_by(resource_history, viewer)))
        if kinds:
            query = query.where(resource_history.c.kind.in_(kinds))
        check_horizon(since, await connection.scalar(horizon) or 0)
        query = query.order_by(resource_history.c.revision).limit(limit)
        found: list[Change] = []
        # What is set aside or known is left out, and never makes a page look like the last.
        while len(found) < limit:
            rows = (await connection.execute(query)).all()
            found += filter(None, (_change_of(row) for row in rows if row.revision not in known))
            if len(rows) < limit:
                break
            query = query.where(resource_history.c.revision > rows[-1].revision)
        return found[:limit]


def _change_of(row: Any) -> Change | None:
    resource = read_document(row.kind, row.document)
    if resource is None:
        return None
    return Change(row.revision, row.type, resource, Ownership(row.owner_tenant, row.owner_project))
