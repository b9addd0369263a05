"""The usage report: who used how much of what, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from billing.store import Ledger, UsageFilter, UsageRow
from billing.store.usage import GROUPS
from common.errors import InvalidInput


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
    """Usage grouped by any of tenant, project, key, model, model_identity, kind, device_class, day (UTC).

    Raises ``InvalidInput`` for another or a repeated group, or a time span that ends before it begins.
    """
    where = where or UsageFilter()
    _check(group_by, where)
    rows = await ledger.usage(group_by, where)
    total = (await ledger.usage((), where))[0] if group_by else rows[0]
    return UsageReport(tuple(group_by), tuple(rows) if group_by else (), total)


def _check(group_by: Sequence[str], where: UsageFilter) -> None:
    for name in group_by:
        if name not in GROUPS:
            raise InvalidInput(
                f"group_by: {name!r} is unknown; choose from {', '.join(GROUPS)}", param="group_by"
            )
    if len(set(group_by)) != len(group_by):
        raise InvalidInput("group_by: names a column twice", param="group_by")
    if where.from_ms is not None and where.to_ms is not None and where.to_ms <= where.from_ms:
        raise InvalidInput("to: must be after from", param="to")


def _flat(row: UsageRow) -> dict[str, Any]:
    sums = {name: value for name, value in vars(row).items() if name != "group"}
    return {**row.group, **sums}
