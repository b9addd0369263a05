"""Outcomes in SQL: each is recorded once, for work that the ledger knows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.outcomes import Outcome, Work
from billing.core.returns import Brought
from billing.store import known_work
from billing.store.columns import DAY_MS, TAG, UsageFilter, day_text, month_of, tag_of
from billing.store.known_work import Owner
from billing.store.schema import outcomes
from billing.store.searches import Searches
from billing.store.series import tags_text
from common.clock import SYSTEM_CLOCK, Clock, rfc3339
from common.db import Database
from common.errors import Conflict, InvalidInput, NotFound, TooManyRequests

MOST_A_DAY = 10_000
"""Outcomes that a tenant may record in a day (UTC)."""
LIST_LIMIT = 1000
CLOCKS_APART_MS = 300_000
"""So far in the future an outcome may lie, by a client's clock."""
_MILLION = 10**6
GROUPS = ("tenant", "project", "month", "day", "outcome", "work_tag", "work_value")


@dataclass(frozen=True)
class Recorded:
    """An outcome as it stands. ``project`` and ``tags`` are what it is reported by, ``at_ms`` is when it
    came; ``withdrawn_ms`` None = it counts. ``repeated``: it was recorded before; nothing was written now."""

    id: str
    tenant: str
    project: str
    work: Work
    name: str
    count: int
    value_microcredits: int
    quality_millis: int | None
    at_ms: int
    tags: Mapping[str, str]
    recorded_ms: int
    withdrawn_ms: int | None = None
    repeated: bool = False


class Outcomes:
    """Records outcomes, finds them and adds them up. ``searches`` are those of all who record."""

    def __init__(
        self, database: Database, clock: Clock = SYSTEM_CLOCK, searches: Searches | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._searches = searches or Searches(clock)

    async def record(self, said: Outcome, owner: Owner) -> Recorded:
        """Write it down, if it is new. When this returns, it is durable.

        Raises ``Conflict`` for an id that says something else, ``InvalidInput`` for work of which the ledger
        has no usage and for times that cannot be, ``TooManyRequests`` for more than a day's, and for too much
        work in a minute that is not known.
        """
        now_ms = self._clock.now_ms()
        async with self._database.read() as connection:
            before = await _said_before(connection, owner, said)
            if before is not None:
                return before
            _check_time(said, owner, now_ms)
            await _check_room(connection, owner, now_ms)
            # Usage of a work does not go again, and looking for it must not hold up who posts.
            with self._searches.one(owner.tenant_uid, "usage of the work"):
                usage = await known_work.find(connection, said, owner, now_ms)
        async with self._database.write() as connection:
            if not self._database.is_sqlite:
                await connection.execute(sa.text("LOCK TABLE outcomes IN SHARE ROW EXCLUSIVE MODE"))
            before = await _said_before(connection, owner, said)
            if before is not None:
                return before
            await _check_room(connection, owner, now_ms)
            row = _row(said, owner, usage, now_ms)
            await connection.execute(sa.insert(outcomes).values(row))
            return _recorded(row)

    async def withdraw(self, owner: Owner, id_: str, project: str | None = None) -> Recorded:
        """Let an outcome count no more; doing it again changes nothing. ``project``: it has to be of this
        one. Raises ``NotFound``."""
        now_ms = self._clock.now_ms()
        async with self._database.write() as connection:
            row = await _find(connection, owner, id_)
            if row is None or project not in (None, row.project) or row.recorded_ms < owner.born_ms:
                raise NotFound(f"there is no outcome {id_!r}")
            if row.withdrawn_ms is not None:
                return _recorded(row, repeated=True)
            found = (outcomes.c.tenant_uid == owner.tenant_uid, outcomes.c.id == id_)
            await connection.execute(sa.update(outcomes).where(*found).values(withdrawn_ms=now_ms))
            return _recorded({**row._mapping, "withdrawn_ms": now_ms})

    async def latest(
        self, where: UsageFilter, name: str | None = None, limit: int = LIST_LIMIT
    ) -> list[Recorded]:
        """Those that were recorded last come first, withdrawn ones too; ``name``: only of this one."""
        query = sa.select(outcomes).where(*self._held(where))
        if name is not None:
            query = query.where(outcomes.c.name == name)
        query = query.order_by(outcomes.c.recorded_ms.desc(), outcomes.c.tenant_uid, outcomes.c.id)
        async with self._database.read() as connection:
            return [_recorded(row) for row in await connection.execute(query.limit(min(limit, LIST_LIMIT)))]

    async def add_up(
        self, group_by: Sequence[str], where: UsageFilter, limit: int | None = None
    ) -> list[tuple[tuple[str, ...], Brought]]:
        """What came in each group (of ``GROUPS``, and tags), by when it came; at most ``limit`` of them."""
        groups = [self._column(name).label(f"g{number}") for number, name in enumerate(group_by)]
        table, million = outcomes.c, sa.literal(_MILLION, sa.BigInteger)
        judged = table.quality_millis.is_not(None)
        sums = (
            table.count,
            table.value_microcredits.op("/")(million),  # in two parts: the sum of the whole may not fit
            table.value_microcredits.op("%")(million),
            sa.case((judged, table.count), else_=0),
            sa.case((judged, table.count * table.quality_millis), else_=0),
        )
        query = sa.select(*groups, *(sa.func.coalesce(sa.func.sum(one), 0) for one in sums))
        query = query.where(*self._held(where), table.withdrawn_ms.is_(None))
        if groups:
            query = query.group_by(*(sa.text(str(number + 1)) for number in range(len(groups))))
        async with self._database.read() as connection:
            rows = (await connection.execute(query.limit(limit))).all()
        return [_sums(tuple(row), len(groups)) for row in rows]

    def _column(self, group: str) -> sa.ColumnElement[str]:
        if group.startswith(TAG):
            return tag_of("sqlite" if self._database.is_sqlite else "", outcomes.c.tags, group[len(TAG) :])
        if group == "month":
            return month_of(outcomes.c.day)
        return outcomes.c["name" if group == "outcome" else group]

    def _held(self, where: UsageFilter) -> list[sa.ColumnElement[bool]]:
        held: list[sa.ColumnElement[bool]] = [
            self._column(group).in_(list(values)) for group, values in where.values().items()
        ]
        held += [outcomes.c.at_ms >= where.begin_ms, outcomes.c.recorded_ms >= where.born_ms]
        return held + ([outcomes.c.at_ms < where.to_ms] if where.to_ms is not None else [])


def _sums(row: Sequence[Any], groups: int) -> tuple[tuple[str, ...], Brought]:
    count, millions, rest, judged, quality = (int(value) for value in row[groups:])
    return tuple(row[:groups]), Brought(count, millions * _MILLION + rest, judged, quality)


async def _find(connection: AsyncConnection, owner: Owner, id_: str) -> sa.Row[Any] | None:
    found = (outcomes.c.tenant_uid == owner.tenant_uid, outcomes.c.id == id_)
    return (await connection.execute(sa.select(outcomes).where(*found))).one_or_none()


async def _said_before(connection: AsyncConnection, owner: Owner, said: Outcome) -> Recorded | None:
    """The same outcome, where it was recorded before. Raises ``Conflict`` for an id that says something
    else."""
    before = await _find(connection, owner, said.id)
    if before is None:
        return None
    if before.digest != said.digest():
        raise Conflict(
            f"id: {said.id!r} was recorded before and says something else; an outcome is not changed: "
            "withdraw it, and record what is right with another id",
            param="id",
        )
    return _recorded(before, repeated=True)


def _check_time(said: Outcome, owner: Owner, now_ms: int) -> None:
    if said.at_ms is None:
        return
    earliest_ms = max(owner.born_ms, now_ms - known_work.LOOK_BACK_MS)
    if not earliest_ms <= said.at_ms <= now_ms + CLOCKS_APART_MS:
        raise InvalidInput(
            f"at: must be from {rfc3339(earliest_ms)} to now, not {rfc3339(said.at_ms)}", param="at"
        )


async def _check_room(connection: AsyncConnection, owner: Owner, now_ms: int) -> None:
    midnight_ms = now_ms // DAY_MS * DAY_MS
    today = (outcomes.c.tenant_uid == owner.tenant_uid, outcomes.c.recorded_ms >= midnight_ms)
    count = (await connection.execute(sa.select(sa.func.count()).where(*today))).scalar_one()
    if count >= MOST_A_DAY:
        raise TooManyRequests(
            f"the tenant has recorded {MOST_A_DAY} outcomes today; record several of a name as one with a "
            "count, or go on after midnight (UTC)",
            retry_after_seconds=-(-(midnight_ms + DAY_MS - now_ms) // 1000),
        )


def _row(said: Outcome, owner: Owner, usage: known_work.Usage, now_ms: int) -> dict[str, Any]:
    at_ms = now_ms if said.at_ms is None else said.at_ms
    return {
        "tenant_uid": owner.tenant_uid,
        "id": said.id,
        "digest": said.digest(),
        "tenant": said.tenant,
        "project": said.project or usage.project,
        "work_tag": said.work.tag,
        "work_value": said.work.value,
        "name": said.name,
        "count": said.count,
        "value_microcredits": said.value_microcredits,
        "quality_millis": said.quality_millis,
        "at_ms": at_ms,
        "day": day_text(at_ms // DAY_MS),
        "recorded_ms": now_ms,
        "withdrawn_ms": None,
        "tags": tags_text(said.tags_with(usage.tags)),
    }


def _recorded(row: sa.Row[Any] | Mapping[str, Any], *, repeated: bool = False) -> Recorded:
    found = row if isinstance(row, Mapping) else row._mapping
    same = ("id", "tenant", "project", "name", "count", "value_microcredits", "quality_millis")
    return Recorded(
        **{name: found[name] for name in (*same, "at_ms", "recorded_ms", "withdrawn_ms")},
        work=Work(found["work_tag"], found["work_value"]),
        tags=json.loads(found["tags"]),
        repeated=repeated,
    )
