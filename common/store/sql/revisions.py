"""Specs that resources have and had, in SQL: written with the resources, bounded for each."""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from common.store.port import SpecRevision
from common.store.revisions import KEPT_REVISIONS, Revised
from common.store.schema import spec_revisions

_C = spec_revisions.c
_BY_UID = _C.uid == sa.bindparam("at_uid")
_FORGET = sa.delete(spec_revisions).where(_BY_UID)
_PRUNE = sa.delete(spec_revisions).where(_BY_UID, _C.generation <= sa.bindparam("last_generation"))
_NEWEST_FIRST = sa.select(spec_revisions).where(_BY_UID).order_by(_C.generation.desc())


async def add_revisions(connection: AsyncConnection, revised: Sequence[Revised]) -> None:
    """Keep these in the transaction of ``connection``, and drop what is too old."""
    rows = [
        {
            "uid": one.uid,
            "generation": made.generation,
            "time_ms": made.time_ms,
            "writer": made.by,
            "tenant": made.tenant,
            "paths": json.dumps(made.paths),
            "spec": None if made.spec is None else json.dumps(made.spec),
        }
        for one in revised
        for made in one.revisions
    ]
    if not rows:
        return
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    await connection.execute(insert(spec_revisions).on_conflict_do_nothing(), rows)
    newest = {one.uid: one.revisions[-1].generation for one in revised}
    ends = [{"at_uid": uid, "last_generation": last - KEPT_REVISIONS} for uid, last in newest.items()]
    await connection.execute(_PRUNE, ends)


async def forget_revisions(connection: AsyncConnection, uids: Sequence[str]) -> None:
    """Drop those of resources that are gone."""
    if uids:
        await connection.execute(_FORGET, [{"at_uid": uid} for uid in uids])


async def read_revisions(connection: AsyncConnection, uid: str) -> Sequence[SpecRevision]:
    """Those of one resource, newest first."""
    rows = await connection.execute(_NEWEST_FIRST, {"at_uid": uid})
    return [
        SpecRevision(
            row.generation,
            row.time_ms,
            row.writer,
            row.tenant,
            tuple(json.loads(row.paths)),
            None if row.spec is None else json.loads(row.spec),
        )
        for row in rows
    ]
