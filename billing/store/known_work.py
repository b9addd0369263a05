"""Which work a tenant has had: looked up in the series that its tags have made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.core.outcomes import TASK, Outcome, Work, shared_tags
from billing.store import series
from billing.store.columns import (
    DAY_MS,
    Selected,
    UsageFilter,
    day_text,
    events_with_series,
    spans_of,
    standing_between,
)
from billing.store.schema import tagged_series, usage_events, usage_series
from common.errors import InvalidInput
from common.vocabulary import shortened

LOOK_BACK_MS = 400 * DAY_MS
"""So long after its usage work may have outcomes: a year, and a month in which they are told."""
MOST_SERIES = 1000
"""That are looked at for what they have in common; work that has more has nothing but its tag in common."""


@dataclass(frozen=True)
class Owner:
    """The tenant that outcomes are of: its uid, which no namesake has; when it was made, or the project that
    is asked for; and its projects by now."""

    tenant_uid: str
    born_ms: int = 0
    projects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Usage:
    """What all usage of a piece of work has in common; ``project`` empty = it was used in several."""

    project: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


async def find(connection: AsyncConnection, said: Outcome, owner: Owner, now_ms: int) -> Usage:
    """The usage that an outcome is for, of its project where it names one. What ended before the owner was
    made was of others who had the names.

    Raises ``InvalidInput`` where there is none, unless the tenant had more tags on a day than the ledger
    tells apart: then nobody knows, and the work is taken to be known.
    """
    first_ms = max(0, now_ms - LOOK_BACK_MS) // DAY_MS * DAY_MS
    query = _series_of(connection.dialect.name, said, owner, first_ms)
    rows = (await connection.execute(query.limit(MOST_SERIES + 1))).all()
    if not rows:
        if not await _is_told_apart(connection, said.tenant, max(first_ms, owner.born_ms)):
            return Usage()
        raise _unknown(said)
    projects = {row.project for row in rows}
    if len(rows) > MOST_SERIES:
        return Usage()
    return Usage(projects.pop() if len(projects) == 1 else "", shared_tags(json.loads(r.tags) for r in rows))


def _series_of(dialect: str, said: Outcome, owner: Owner, first_ms: int) -> Selected:
    """Project and tags of what the tenant has used for the work, each once. Days come from the series that
    they have, the day on which the owner was made from its events, by the index of projects and ends."""
    columns = (usage_series.c.project, usage_series.c.tags)
    named = [usage_series.c.tenant == said.tenant, _has_tag(dialect, said.work)]
    if said.project:
        named.append(usage_series.c.project == said.project)
    spans = spans_of(UsageFilter(from_ms=first_ms, born_ms=owner.born_ms))
    of_days = (
        sa.select(*columns)
        .join_from(tagged_series, usage_series, tagged_series.c.series == usage_series.c.id)
        .where(tagged_series.c.tenant == said.tenant, *spans.days(tagged_series.c.day), *named)
    )
    of_tenant = sa.select(*columns).select_from(events_with_series()).where(*named)
    projects = (said.project,) if said.project else owner.projects
    of_tenant = of_tenant.where(usage_events.c.tenant == said.tenant, usage_events.c.project.in_(projects))
    found = spans.rows(lambda: of_days, lambda *edge: of_tenant.where(*standing_between(*edge)))
    return sa.select(found.c.project, found.c.tags).distinct()


def _has_tag(dialect: str, work: Work) -> sa.ColumnElement[bool]:
    """Whether the JSON has this member. In sorted JSON without spaces it follows a brace or a comma, and no
    text within has a quotation mark that no backslash stands before."""
    member = series.tags_text({work.tag: work.value})[1:-1]
    position = sa.func.instr if dialect == "sqlite" else sa.func.strpos
    return sa.or_(*(position(usage_series.c.tags, f"{before}{member}") > 0 for before in "{,"))


async def _is_told_apart(connection: AsyncConnection, tenant: str, from_ms: int) -> bool:
    """Whether all tags of the tenant's usage are."""
    table = tagged_series.c
    full = (
        sa.select(table.day)
        .where(table.tenant == tenant, table.day >= day_text(from_ms // DAY_MS))
        .group_by(table.day)
        .having(sa.func.count() >= series.MAX_TAGGED_SERIES)
    )
    return (await connection.execute(full.limit(1))).first() is None


def _unknown(said: Outcome) -> InvalidInput:
    work = said.work
    path = TASK if work.tag == TASK else "tag"
    where = f"project {said.project}" if said.project else f"tenant {said.tenant}"
    pair = json.dumps({work.tag: shortened(work.value, 80)}, ensure_ascii=False)
    return InvalidInput(
        f"{path}: the ledger has no usage of the {where} for {shortened(str(work), 100)!r}; requests say "
        f'what they are for by "metadata": {pair}, and their usage is there within a minute',
        "unknown_work",
        path,
    )
