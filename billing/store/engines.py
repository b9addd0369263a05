"""Events of inference by the engine that they name, added up in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.allotments import COVERED
from billing.core.events import METERS
from billing.core.reconciliation import CLOCKS_APART_MS, EventGroup, Part
from billing.store.schema import charge_totals, usage_events, usage_totals

Engine = tuple[str, str]
"""``project/name`` of its Endpoint, and the name of its Workload."""
_OTHERS = ("read_by", "continued_by")
_SUMS = ("prompt", "completion", "prompt_counted", "sequences")


async def engine_use(
    connection: AsyncConnection, from_ms: int, to_ms: int
) -> Mapping[Engine, Sequence[EventGroup]]:
    """What every engine has to have counted between two moments; reversed events are part of it, as the work
    was done."""
    found: dict[Engine, list[EventGroup]] = {}
    for row in await connection.execute(_query(connection.dialect.name, from_ms, to_ms)):
        for name, group in _groups(row):
            found.setdefault((row.endpoint, name), []).append(group)
    return found


def _query(dialect: str, from_ms: int, to_ms: int) -> sa.Select[Any]:
    document = usage_events.c.document

    def member(*path: str) -> sa.ColumnElement[str]:
        if dialect == "postgresql":
            text: sa.ColumnElement[str] = sa.cast(document, JSONB)[path].astext
            return text
        extracted: sa.ColumnElement[str] = sa.func.json_extract(document, "$." + ".".join(path))
        return extracted

    def number(label: str) -> sa.ColumnElement[int]:
        """1 where the label is not there, or says something else than a small number."""
        text = member("labels", label)
        sound = text.regexp_match("^[1-9][0-9]{0,4}$")
        return sa.case((sound, sa.cast(sa.case((sound, text)), sa.BigInteger)), else_=1)

    started_ms = sa.cast(member("started_ms"), sa.BigInteger)
    ended_ms = usage_events.c.ended_ms
    edge = sa.or_(started_ms <= from_ms + CLOCKS_APART_MS, ended_ms >= to_ms - CLOCKS_APART_MS)
    groups = [
        member("endpoint").label("endpoint"),
        member("resource").label("resource"),
        member("outcome").label("outcome"),
        *(sa.func.coalesce(member("labels", name), "").label(name) for name in _OTHERS),
        sa.case((edge, 1), else_=0).label("edge"),
    ]
    choices, prompts = number("choices"), number("prompts")
    prompt_tokens = usage_events.c.prompt_tokens
    counted = [
        prompt_tokens.label("prompt"),
        usage_events.c.completion_tokens.label("completion"),
        (prompt_tokens * choices).label("prompt_counted"),
        (choices * prompts).label("sequences"),
    ]
    inner = (
        sa.select(*groups, *counted)
        .where(usage_events.c.kind == "inference", ended_ms >= from_ms - CLOCKS_APART_MS)
        .where(started_ms <= to_ms + CLOCKS_APART_MS)
        .subquery()
    )
    keys = [inner.c[column.name] for column in groups]
    sums = [sa.func.sum(inner.c[name]).label(name) for name in _SUMS]
    return sa.select(*keys, sa.func.count().label("events"), *sums).group_by(*keys)


def _groups(row: Any) -> list[tuple[str, EventGroup]]:
    """Names of Workloads, and what each of them has a part in."""
    group = EventGroup(
        outcome=row.outcome,
        events=int(row.events),
        prompt=int(row.prompt),
        completion=int(row.completion),
        prompt_counted=int(row.prompt_counted),
        sequences=int(row.sequences),
        edge=bool(row.edge),
    )
    part: Part = "beginning" if row.continued_by else "answering" if row.read_by else "all"
    return [
        (row.resource, replace(group, part=part)),
        *((name, replace(group, part="reading")) for name in row.read_by.split()),
        *((name, replace(group, part="rest")) for name in row.continued_by.split()),
    ]


async def days_apart(connection: AsyncConnection, from_day: str, to_day: str) -> Mapping[str, int]:
    """How far the sums of days (``YYYY-MM-DD``, both included) are apart, by count: what events that are not
    reversed say, less what the totals and the charges say, whoever has paid. Empty where all agree."""
    names = (*METERS, "microcredits")
    events = usage_events.c
    standing = [events.day >= from_day, events.day <= to_day, events.reversed_ms.is_(None)]
    told = await _sums(connection, [events[name] for name in names], standing)
    days = [usage_totals.c.day >= from_day, usage_totals.c.day <= to_day]
    totals = await _sums(connection, [usage_totals.c[name] for name in names], days)
    days = [charge_totals.c.day >= from_day, charge_totals.c.day <= to_day]
    days.append(charge_totals.c.meter.not_like(f"{COVERED}%"))
    [charged] = await _sums(connection, [charge_totals.c.microcredits], days)
    apart = {name: mine - theirs for name, mine, theirs in zip(names, told, totals, strict=True)}
    apart["charges"] = told[-1] - charged
    return {name: tokens for name, tokens in apart.items() if tokens}


async def _sums(
    connection: AsyncConnection, columns: Sequence[sa.ColumnElement[int]], where: Sequence[Any]
) -> list[int]:
    query = sa.select(*(sa.func.coalesce(sa.func.sum(column), 0) for column in columns)).where(*where)
    return [int(value) for value in (await connection.execute(query)).one()]
