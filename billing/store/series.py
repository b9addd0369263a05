"""What usage is added up by, and how many combinations of it a tenant's tags may make."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.events import UsageEvent
from billing.core.rating import digest_of
from billing.store import bulk
from billing.store.rows import day_of
from billing.store.schema import SERIES, SERIES_SINCE_TAGS, tagged_series

MAX_TAGGED_SERIES = 1000
"""Of a tenant and day: what goes beyond is counted under ``OTHER``, with its amounts."""
OTHER = "(other)"
"""The user, and the value of every tag, of what went beyond."""
ALL_OTHER = "*"
"""In place of tags in the database: all of them are ``OTHER``."""
_OLD = len(SERIES) - len(SERIES_SINCE_TAGS)
_USER, _TAGS = SERIES.index("end_user"), SERIES.index("tags")
_REMEMBERED = 128
_KNOWN_SERIES = 10_000
_SORTED = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode

Columns = tuple[str, ...]
"""The values of ``SERIES``."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event counts: a day and a series."""

    day: str
    series: str
    columns: Columns

    @property
    def is_tagged(self) -> bool:
        """Whether it is one of those that a tenant's tags make."""
        return _is_tagged(self.columns) and self.columns[_TAGS] != ALL_OTHER


def _is_tagged(columns: Columns) -> bool:
    return bool(columns[_USER] or columns[_TAGS])


def columns_of(event: UsageEvent) -> Columns:
    """What the event is added up by."""
    return (
        event.tenant,
        event.project,
        event.key,
        event.model,
        event.model_identity,
        event.kind,
        event.device_class,
        event.adapter,
        event.endpoint,
        event.labels.get("task", ""),
        event.user,
        tags_text(event.tags) if event.tags else "",
    )


def tags_text(tags: Mapping[str, str]) -> str:
    """Tags as a series has them: sorted JSON without spaces."""
    return _SORTED(dict(tags))


@lru_cache(maxsize=_KNOWN_SERIES)
def series_id(columns: Columns) -> str:
    """The digest of the columns, without the younger ones where these are all empty."""
    return digest_of(columns if any(columns[_OLD:]) else columns[:_OLD])


def place_of_before(event: UsageEvent) -> Place:
    """That of an event that was posted before the younger columns were counted."""
    columns = (*columns_of(event)[:_OLD], *("" for _ in SERIES_SINCE_TAGS))
    return Place(day_of(event), series_id(columns), columns)


class Places:
    """Finds the places of events; remembers, within bounds, which tagged series a tenant's day has.

    Each process counts what it has seen: several that post for a tenant at the same moment may each fill the
    day.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], set[str]] = OrderedDict()

    async def of(self, connection: AsyncConnection, events: Sequence[UsageEvent]) -> dict[str, Place]:
        """The place of each event by its id."""
        fresh: dict[tuple[str, str], set[str]] = {}
        found = {}
        for event in events:
            day, columns = day_of(event), columns_of(event)
            if _is_tagged(columns) and not await self._room(connection, day, columns, fresh):
                columns = (*columns[:_USER], OTHER, ALL_OTHER)
            found[event.id] = Place(day, series_id(columns), columns)
        return found

    async def _room(
        self,
        connection: AsyncConnection,
        day: str,
        columns: Columns,
        fresh: dict[tuple[str, str], set[str]],
    ) -> bool:
        """Whether the series may be there; ``fresh`` is what the batch brings: (day, tenant) -> ids."""
        owner, id_ = (day, columns[0]), series_id(columns)
        known = self._known.get(owner)
        if known is None:
            known = self._known[owner] = await _read(connection, *owner)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(owner)
        new = fresh.setdefault(owner, set())
        if id_ in known or id_ in new:
            return True
        if len(known) + len(new) >= MAX_TAGGED_SERIES:
            return False
        new.add(id_)
        return True

    async def note(self, connection: AsyncConnection, places: Iterable[Place]) -> None:
        """Write down the tagged series among these."""
        rows = {(place.day, place.columns[0], place.series) for place in places if place.is_tagged}
        new = [row for row in rows if row[2] not in self._known.get(row[:2], ())]
        await bulk.insert(connection, tagged_series, sorted(new), bulk.IGNORE)

    def committed(self, places: Mapping[str, Place]) -> None:
        """The transaction in which the places were noted is durable."""
        for place in places.values():
            known = self._known.get((place.day, place.columns[0])) if place.is_tagged else None
            if known is not None:
                known.add(place.series)


async def _read(connection: AsyncConnection, day: str, tenant: str) -> set[str]:
    table = tagged_series.c
    query = sa.select(table.series).where(table.day == day, table.tenant == tenant)
    return set((await connection.execute(query)).scalars())
