"""Many statuses in one transaction of the SQL store: read together, checked one by one, written together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from pydantic_core import from_json, to_json
from sqlalchemy.ext.asyncio import AsyncConnection

from common.errors import ComputilityError, Conflict, NotFound
from common.loop import in_turns
from common.resources import Resource
from common.store.ownership import Ownership
from common.store.port import StatusWrite
from common.store.rules import check_version, not_found
from common.store.schema import resources
from common.store.set_aside import read_document
from common.store.sql.batch import Key, key_at, rows_of
from common.store.sql.history import Noted, SqlHistory

_UPDATE = (
    sa.update(resources)
    .where(
        resources.c.kind == sa.bindparam("at_kind"),
        resources.c.project == sa.bindparam("at_project"),
        resources.c.name == sa.bindparam("at_name"),
    )
    .values(resource_version=sa.bindparam("version"), document=sa.bindparam("text"))
)


class SqlStatuses:
    """One batch, in the transaction of ``connection``. Afterwards ``revision`` is the last one given,
    ``noted`` has what was changed, and ``dropped`` says whether old changes were dropped."""

    def __init__(self, connection: AsyncConnection, history: SqlHistory) -> None:
        self._connection = connection
        self._history = history
        self._rows: list[dict[str, Any]] = []
        self.noted: list[Noted] = []
        self.revision = 0
        self.dropped = False

    async def write(
        self, writes: Sequence[StatusWrite], revision: int
    ) -> list[Resource | ComputilityError | None]:
        """See ``Store.set_statuses``. ``revision``: the last one given before."""
        self.revision = revision
        wanted = [write.resource for write in writes if write.resource is not None]
        stored = await rows_of(self._connection, map(key_at, wanted))
        results = [
            None if write.resource is None else self._plan(write.resource, stored)
            async for write in in_turns(writes)
        ]
        if self._rows:
            await self._connection.execute(_UPDATE, self._rows)
            self.dropped = await self._history.note_all(self._connection, self.noted)
        return results

    def _plan(self, new: Resource, stored: dict[Key, Any]) -> Resource | ComputilityError:
        """The resource as it will be stored, noted to be written; or why it is not."""
        row = stored.get(key_at(new))
        try:
            if row is None:
                raise not_found(new.kind, new.name, new.project)
            document = from_json(row.document)
            meta = document["metadata"]
            if new.metadata.uid and meta.get("uid", "") != new.metadata.uid:
                raise not_found(new.kind, new.name, new.project)
            if new.metadata.resource_version != meta.get("resourceVersion"):
                check_version(_parsed(new, row.document), new)
        except (Conflict, NotFound) as error:
            return error
        status = new.status.to_dict()
        changed = status != document["status"]
        if changed:
            self.revision += 1
            meta["resourceVersion"] = self.revision
            document["status"] = status
            self._note(new, row, to_json(document).decode())
        if new.metadata.resource_version == 0:
            return _parsed(new, self.noted[-1].document if changed else row.document)
        metadata = new.metadata.model_copy(update={"resource_version": meta["resourceVersion"]})
        return new.model_copy(update={"metadata": metadata})

    def _note(self, new: Resource, row: Any, document: str) -> None:
        kind, project, name = key_at(new)
        self._rows.append(
            {
                "at_kind": kind,
                "at_project": project,
                "at_name": name,
                "version": self.revision,
                "text": document,
            }
        )
        owner = Ownership(row.owner_tenant, row.owner_project)
        self.noted.append(Noted(self.revision, "put", kind, document, owner))


def _parsed(new: Resource, document: str) -> Resource:
    """The stored resource; raises ``NotFound`` where today's kinds do not take it."""
    found = read_document(type(new).__name__, document)
    if found is None:
        raise not_found(new.kind, new.name, new.project)
    return found
