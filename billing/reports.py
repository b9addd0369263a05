"""The usage report: who used how much of what, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from billing.core.compute_units import Compute, ComputeUnits
from billing.store import Ledger, UsageFilter, UsageRow
from billing.store.columns import GROUPS, STEPS_MS, TAG
from common.errors import InvalidInput
from common.vocabulary import shortened

MAX_GROUPS = 8
MAX_ROWS = 50_000
MOST_STEPS = 1500
"""Hours or minutes that one report tells apart."""


@dataclass(frozen=True)
class UsageReport:
    """One row per group, and the sum of all; the sum's group is empty."""

    group_by: tuple[str, ...]
    rows: tuple[UsageRow, ...]
    total: UsageRow

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the groups stand beside the sums."""
        return {
            "group_by": list(self.group_by),
            "rows": [_flat(row) for row in self.rows],
            "total": _flat(self.total),
        }


async def usage_report(
    ledger: Ledger, group_by: Sequence[str] = (), where: UsageFilter | None = None
) -> UsageReport:
    """Usage grouped by any of ``GROUPS`` (day, hour and minute are of UTC) and of tags, as ``tag:team``.

    Raises ``InvalidInput`` for another or a repeated group, a time span that ends before it begins, hours or
    minutes of too long a span, and more rows than ``MAX_ROWS``.
    """
    where = where or UsageFilter()
    _check(group_by, where)
    rows = await ledger.usage(group_by, where, MAX_ROWS + 1)
    _check_rows(rows)
    total = (await ledger.usage((), where))[0] if group_by else rows[0]
    return UsageReport(tuple(group_by), tuple(rows) if group_by else (), total)


async def compute_report(
    ledger: Ledger, report: UsageReport, where: UsageFilter, units: ComputeUnits
) -> dict[str, Any]:
    """The report in plain JSON types, with the device time of each row in standard compute units. Raises
    ``InvalidInput`` for more rows than ``MAX_ROWS``."""
    groups = report.group_by
    asked = groups if "device_class" in groups else (*groups, "device_class")
    found = await ledger.usage(
        asked, replace(where, among={**where.among, "kind": ("device",)}), MAX_ROWS + 1
    )
    _check_rows(found)
    return await asyncio.to_thread(_with_units, report, found, units)


def _with_units(report: UsageReport, found: Sequence[UsageRow], units: ComputeUnits) -> dict[str, Any]:
    """In a thread: as many rows as there may be take longer than others should wait."""
    groups = report.group_by
    used: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for row in found:
        key = tuple(row.group[name] for name in groups)
        used.setdefault(key, []).append((row.group["device_class"], row.device_seconds))
    content = report.to_dict()
    for flat in content["rows"]:
        flat.update(_units(units.added(used.get(tuple(flat[name] for name in groups), ()))))
    content["total"].update(_units(units.added(pair for pairs in used.values() for pair in pairs)))
    return {**content, "compute_unit": units.reference}


def _units(compute: Compute) -> dict[str, int]:
    return {"compute_unit_millis": compute.unit_millis, "uncounted_device_seconds": compute.unknown_seconds}


def _check_rows(rows: Sequence[UsageRow]) -> None:
    if len(rows) > MAX_ROWS:
        raise InvalidInput(
            f"group_by: more than {MAX_ROWS} rows; ask for a shorter time or fewer groups", param="group_by"
        )


def check_group(
    name: str, param: str = "group_by", *, groups: Sequence[str] = GROUPS, tags: str = f"{TAG}<name>"
) -> None:
    """Raise ``InvalidInput`` unless it is a group or a tag. ``tags``: how tags are named to whoever asked."""
    if name not in groups and (not name.startswith(TAG) or name == TAG):
        known = ", ".join((*groups, tags))
        raise InvalidInput(f"{param}: {shortened(name, 80)!r} is unknown; choose from {known}", param=param)


def check_grouping(group_by: Sequence[str], where: UsageFilter) -> None:
    """Raise ``InvalidInput`` where groups come twice, are too many, or the time is none."""
    if len(set(group_by)) != len(group_by):
        raise InvalidInput("group_by: names a column twice", param="group_by")
    if len(group_by) > MAX_GROUPS:
        raise InvalidInput(f"group_by: at most {MAX_GROUPS} columns", param="group_by")
    if where.from_ms is not None and where.to_ms is not None and where.to_ms <= where.from_ms:
        raise InvalidInput("to: must be after from", param="to")


def _check(group_by: Sequence[str], where: UsageFilter) -> None:
    for name in (*group_by, *where.among):
        check_group(name)
    check_grouping(group_by, where)
    _check_steps(group_by, where)


def _check_steps(group_by: Sequence[str], where: UsageFilter) -> None:
    """Hours and minutes are read event by event."""
    for name in group_by:
        longest_ms = MOST_STEPS * STEPS_MS.get(name, 0)
        if name in STEPS_MS and (where.to_ms is None or where.to_ms - where.begin_ms > longest_ms):
            raise InvalidInput(
                f"from: a report by {name} needs from and to, at most {MOST_STEPS} {name}s apart",
                param="from",
            )


def _flat(row: UsageRow) -> dict[str, Any]:
    sums = {name: value for name, value in vars(row).items() if name != "group"}
    return {**row.group, **sums}
