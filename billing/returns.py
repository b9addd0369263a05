"""The report of returns: what work has brought beside what it was charged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from billing.core.outcomes import Work
from billing.core.returns import Brought, Claims, Return, WorkOf
from billing.reports import MAX_GROUPS, MAX_ROWS, check_group, check_grouping
from billing.store import Ledger, UsageFilter, UsageRow
from billing.store.columns import TAG
from billing.store.outcomes import Outcomes
from common.errors import InvalidInput

OUTCOME = "outcome"
RETURN_GROUPS = ("tenant", "project", OUTCOME, "month", "day")

MAX_PARTS = 10 * MAX_ROWS
"""Of the cost of usage that outcomes have, all together."""

Key = tuple[str, ...]


@dataclass(frozen=True)
class ReturnsReport:
    """One row per group, in their order, and the sum of all."""

    group_by: tuple[str, ...]
    rows: Mapping[Key, Return]
    total: Return

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the groups stand beside the sums."""
        return {
            "group_by": list(self.group_by),
            "rows": [
                {**dict(zip(self.group_by, key, strict=True)), **row.to_dict()}
                for key, row in self.rows.items()
            ],
            "total": self.total.to_dict(),
        }


async def returns_report(
    ledger: Ledger, outcomes: Outcomes, group_by: Sequence[str], where: UsageFilter
) -> ReturnsReport:
    """Cost (of usage that ended in the span) and value (of outcomes that came in it), by any of
    ``RETURN_GROUPS`` and tags.

    Grouped by ``outcome``, the cost of a piece of work is that of its outcomes in the span, and what has
    brought none stands beside an empty name. Raises ``InvalidInput`` for unknown or repeated groups and for
    too many rows.
    """
    _check(group_by, where)
    if OUTCOME in group_by:
        costs = await _costs_by_outcome(ledger, outcomes, group_by, where)
    else:
        costs = await _costs(ledger, group_by, where)
    values = await outcomes.add_up(group_by, where, MAX_ROWS + 1)
    _check_rows(len(values))
    return await asyncio.to_thread(_report, tuple(group_by), costs, values)


def _report(
    group_by: tuple[str, ...], costs: Mapping[Key, int], values: Sequence[tuple[Key, Brought]]
) -> ReturnsReport:
    """In a thread: as many rows as there may be take longer than others should wait."""
    rows: dict[Key, Return] = {}
    total = Return()
    parts = [*((key, Return(cost)) for key, cost in costs.items())]
    parts += ((key, Return(0, brought)) for key, brought in values)
    for key, part in parts:
        rows[key] = rows.get(key, Return()) + part
        total += part
    _check_rows(len(rows))
    shown = {key: rows[key] for key in sorted(rows) if rows[key] != Return()} if group_by else {}
    return ReturnsReport(group_by, shown, total)


async def _costs(ledger: Ledger, group_by: Sequence[str], where: UsageFilter) -> dict[Key, int]:
    used = await ledger.usage(group_by, where, MAX_ROWS + 1)
    _check_rows(len(used))
    return {tuple(row.group[name] for name in group_by): row.microcredits for row in used}


async def _costs_by_outcome(
    ledger: Ledger, outcomes: Outcomes, group_by: Sequence[str], where: UsageFilter
) -> dict[Key, int]:
    claims = Claims(await _brought_by_work(outcomes, where))
    others = [name for name in group_by if name != OUTCOME]
    tags = [f"{TAG}{tag}" for tag in claims.tags]
    asked = list(dict.fromkeys((*others, "tenant", *tags)))
    if len(tags) > MAX_GROUPS:
        raise InvalidInput(
            f"group_by: outcomes of this time are tied to more than {MAX_GROUPS} different tags; ask for a "
            "shorter time",
            param="group_by",
        )
    used = await ledger.usage(asked, where, MAX_ROWS + 1)
    _check_rows(len(used))
    return await asyncio.to_thread(_shared_out, claims, group_by, tags, used)


def _shared_out(
    claims: Claims, group_by: Sequence[str], tags: Sequence[str], used: Sequence[UsageRow]
) -> dict[Key, int]:
    """In a thread. Usage of work that has many outcomes has a part in each."""
    costs: dict[Key, int] = {}
    parts = 0
    for row in used:
        values = [row.group[tag] for tag in tags]
        shares = claims.of(row.group["tenant"], values, row.microcredits)
        parts += len(shares)
        if parts > MAX_PARTS:
            raise InvalidInput(
                f"group_by: outcomes have more than {MAX_PARTS} parts in usage of their work; ask for a "
                "shorter time or fewer groups",
                param="group_by",
            )
        for name, microcredits in shares:
            key = tuple(name if group == OUTCOME else row.group[group] for group in group_by)
            costs[key] = costs.get(key, 0) + microcredits
    return costs


async def _brought_by_work(outcomes: Outcomes, where: UsageFilter) -> Mapping[WorkOf, Mapping[str, Brought]]:
    found = await outcomes.add_up(("tenant", "work_tag", "work_value", OUTCOME), where, MAX_ROWS + 1)
    _check_rows(len(found))
    brought: dict[WorkOf, dict[str, Brought]] = {}
    for (tenant, tag, value, name), sums in found:
        brought.setdefault((tenant, Work(tag, value)), {})[name] = sums
    return brought


def _check(group_by: Sequence[str], where: UsageFilter) -> None:
    for name in group_by:
        check_group(name, groups=RETURN_GROUPS, tags=f"{TAG}<name> (tasks are {TAG}task)")
    check_grouping(group_by, where)


def _check_rows(rows: int) -> None:
    if rows > MAX_ROWS:
        raise InvalidInput(
            f"group_by: more than {MAX_ROWS} rows; ask for a shorter time or fewer groups", param="group_by"
        )
