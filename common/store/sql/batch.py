"""Writes in one transaction of the SQL store: what they meet is read together, they are planned one after the
other in memory, and what comes of them is written together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from common.clock import Clock
from common.resources import Resource
from common.store.ownership import NOBODY_ELSE, Ownership, owner_below, parent_of
from common.store.port import Applied, Put, R, Write
from common.store.rules import Stored, in_order, key_of, plan, plan_status
from common.store.schema import resources
from common.store.set_aside import check_free, read_document
from common.store.sql.history import Noted, SqlHistory

AT_A_TIME = 200
"""So many rows are asked for in one statement."""
Key = tuple[str, str, str]
"""Kind, project (empty = none) and name."""
Mark = tuple[dict[Key, Stored | None], int, int]
_CONTENT = ("resource_version", "document", "owner_tenant", "owner_project")
_IS = sa.and_(
    resources.c.kind == sa.bindparam("at_kind"),
    resources.c.project == sa.bindparam("at_project"),
    resources.c.name == sa.bindparam("at_name"),
)
_SELECT = sa.select(resources).where(
    resources.c.kind == sa.bindparam("kind"),
    resources.c.project == sa.bindparam("project"),
    resources.c.name.in_(sa.bindparam("names", expanding=True)),
)
_INSERT = sa.insert(resources)
_DELETE = sa.delete(resources).where(_IS)
_UPDATE = sa.update(resources).where(_IS).values({name: sa.bindparam(name) for name in _CONTENT})


async def rows_of(connection: AsyncConnection, keys: Iterable[Key]) -> dict[Key, Any]:
    """The rows of these resources that there are. SQLite finds names in a list by the key of the table, but
    reads all of it where whole keys are in a list."""
    found: dict[Key, Any] = {}
    groups: dict[tuple[str, str], dict[str, None]] = {}
    for kind, project, name in keys:
        groups.setdefault((kind, project), {})[name] = None
    for (kind, project), among in groups.items():
        names = list(among)
        for start in range(0, len(names), AT_A_TIME):
            values = {"kind": kind, "project": project, "names": names[start : start + AT_A_TIME]}
            for row in await connection.execute(_SELECT, values):
                found[kind, project, row.name] = row
    return found


class SqlBatch:
    """Use: ``read`` what the writes will meet, ``write`` any number of times, ``flush`` once. ``revision`` is
    the last one given; ``noted`` are the changes that are to be kept."""

    def __init__(self, connection: AsyncConnection, clock: Clock, revision: int) -> None:
        self._connection = connection
        self._clock = clock
        self._rows: dict[Key, Any] = {}
        self._now: dict[Key, Stored | None] = {}
        self.revision = revision
        self.noted: list[Noted] = []

    async def read(self, writes: Iterable[Write]) -> None:
        """Read what these writes meet, and what it belongs to."""
        self._rows.update(await rows_of(self._connection, _keys_of(writes)))

    def mark(self) -> Mark:
        """What is planned now, for ``undo``."""
        return dict(self._now), self.revision, len(self.noted)

    def undo(self, mark: Mark) -> None:
        """Forget what was planned since."""
        self._now, self.revision = mark[0], mark[1]
        del self.noted[mark[2] :]

    def write(self, writes: Sequence[Write]) -> list[Applied[Resource]]:
        """Plan these. Raises what ``Store.write_all`` does; some of them may be planned then."""
        done = {position: self._do(writes[position]) for position in in_order(writes)}
        return [done[position] for position in range(len(writes))]

    def set_status(self, resource: R) -> R:
        """Plan a status; returns the resource as it will be stored."""
        key = key_at(resource)
        stored = self._stored(key)
        old = cast(R, stored.resource) if stored else None
        merged = plan_status(old, resource, self.revision + 1)
        if merged is None or stored is None:
            return cast(R, old)
        self._note("put", key, Stored(merged, stored.owner))
        return merged

    async def flush(self, history: SqlHistory) -> bool:
        """Write what has been planned; whether old changes were dropped from the history."""
        new, changed, gone = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
        documents = {change.revision: change.document for change in self.noted}
        for key, stored in self._now.items():
            if stored is None:
                if key in self._rows:
                    gone.append(_place(key))
            elif key in self._rows:
                changed.append({**_place(key), **_content(stored, documents)})
            else:
                new.append({**_named(key), **_content(stored, documents)})
        for statement, rows in ((_DELETE, gone), (_INSERT, new), (_UPDATE, changed)):
            if rows:
                await self._connection.execute(statement, rows)
        return await history.note_all(self._connection, self.noted) if self.noted else False

    def _do(self, wanted: Write) -> Applied[Resource]:
        kind, name, project = key_of(wanted)
        key = (kind, project or "", name)
        applied, owner = plan(self._stored(key), wanted, self.revision + 1, self._clock)
        if applied.outcome == "unchanged":
            return applied
        gone = applied.outcome == "deleted"
        whose = owner or (NOBODY_ELSE if gone else self._owner_of(applied.resource))
        self._note("delete" if gone else "put", key, Stored(applied.resource, whose))
        return replace(applied, owner=whose)

    def _stored(self, key: Key) -> Stored | None:
        """What a write meets. Raises ``Conflict`` where the name is that of something set aside."""
        if key in self._now:
            known = self._now[key]
            return Stored(known.resource.copy_deep(), known.owner) if known else None
        row = self._rows.get(key)
        if row is None:
            return None
        resource = read_document(key[0], row.document)
        if resource is None:
            check_free(key[0], key[2], row.document)
            return None
        return Stored(resource, Ownership(row.owner_tenant, row.owner_project))

    def _owner_of(self, resource: Resource) -> Ownership:
        """Whose the resource is, by what it belongs to now."""
        parent = parent_of(resource)
        above = NOBODY_ELSE if parent is None else self._owner_at((parent.kind, "", parent.name))
        return owner_below(resource, above)

    def _owner_at(self, key: Key) -> Ownership:
        if key in self._now:
            known = self._now[key]
            return known.owner if known else NOBODY_ELSE
        row = self._rows.get(key)
        return Ownership(row.owner_tenant, row.owner_project) if row is not None else NOBODY_ELSE

    def _note(self, type_: Literal["put", "delete"], key: Key, stored: Stored) -> None:
        """Give the next revision to this change."""
        self.revision += 1
        self._now[key] = stored if type_ == "put" else None
        self.noted.append(Noted(self.revision, type_, key[0], dump(stored.resource), stored.owner))


def key_at(resource: Resource) -> Key:
    """Where a resource is stored."""
    return type(resource).__name__, resource.project or "", resource.name


def dump(resource: Resource) -> str:
    """A resource as the text that is stored."""
    return resource.model_dump_json(by_alias=True, exclude_none=True)


def _keys_of(writes: Iterable[Write]) -> Iterable[Key]:
    for write in writes:
        kind, name, project = key_of(write)
        yield kind, project or "", name
        parent = parent_of(write.resource) if isinstance(write, Put) else None
        if parent is not None:
            yield parent.kind, "", parent.name


def _named(key: Key) -> dict[str, Any]:
    return dict(zip(("kind", "project", "name"), key, strict=True))


def _place(key: Key) -> dict[str, Any]:
    return dict(zip(("at_kind", "at_project", "at_name"), key, strict=True))


def _content(stored: Stored, documents: dict[int, str]) -> dict[str, Any]:
    version = stored.resource.metadata.resource_version
    return {
        "resource_version": version,
        "document": documents[version],
        "owner_tenant": stored.owner.tenant,
        "owner_project": stored.owner.project,
    }
