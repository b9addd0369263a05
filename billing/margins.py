"""The report of margins: what models were charged, beside what the devices that did the work cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from billing.core.device_costs import CostTable, Margin
from billing.reports import MAX_ROWS
from billing.store import Ledger, UsageFilter, UsageRow
from common.errors import InvalidInput
from common.vocabulary import shortened

MARGIN_GROUPS = ("model_identity", "device_class", "month", "day")
_ALWAYS = ("device_class", "kind")
"""What costs go by, and what tells tokens from device time."""


@dataclass(frozen=True)
class MarginReport:
    """One row per group, in their order, and the sum of all."""

    group_by: tuple[str, ...]
    rows: Mapping[tuple[str, ...], Margin]
    total: Margin
    costs: CostTable

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the groups stand beside the sums."""
        rows = [
            {**dict(zip(self.group_by, key, strict=True)), **row.to_dict()} for key, row in self.rows.items()
        ]
        devices = [
            {
                "device_class": name,
                "busy_hour_microcredits": self.costs.hour_microcredits(name, busy=True),
                "idle_hour_microcredits": self.costs.hour_microcredits(name, busy=False),
            }
            for name in sorted(self.costs.devices)
        ]
        return {
            "group_by": list(self.group_by),
            "rows": rows,
            "total": self.total.to_dict(),
            "devices": devices,
        }


async def margin_report(
    ledger: Ledger, costs: CostTable, group_by: Sequence[str], where: UsageFilter
) -> MarginReport:
    """By any of ``MARGIN_GROUPS``, of all tenants: an engine's device time is not that of one of them. Work
    that is no model's stands under an empty name.

    Raises ``InvalidInput`` for unknown or repeated groups, a span that ends before it begins, and too many
    rows.
    """
    _check(group_by, where)
    asked = [*group_by, *(name for name in _ALWAYS if name not in group_by)]
    used = await ledger.usage(asked, where, MAX_ROWS + 1)
    if len(used) > MAX_ROWS:
        raise InvalidInput(
            f"group_by: more than {MAX_ROWS} rows; ask for a shorter time or fewer groups", param="group_by"
        )
    rows: dict[tuple[str, ...], Margin] = {}
    total = Margin()
    for row in used:
        key, part = tuple(row.group[name] for name in group_by), _margin_of(row, costs)
        rows[key] = rows.get(key, Margin()) + part
        total += part
    return MarginReport(tuple(group_by), {key: rows[key] for key in sorted(rows)}, total, costs)


def _margin_of(row: UsageRow, costs: CostTable) -> Margin:
    made = costs.made_microcredits(row.group["device_class"], row.device_seconds)
    return Margin(
        tokens=row.prompt_tokens + row.completion_tokens + row.trained_tokens,
        charged_microcredits=row.microcredits,
        token_microcredits=0 if row.group["kind"] == "device" else row.microcredits,
        device_seconds=row.device_seconds,
        uncosted_seconds=row.device_seconds if made is None else 0,
        made_microcredits=Fraction(0) if made is None else made,
    )


def _check(group_by: Sequence[str], where: UsageFilter) -> None:
    for name in group_by:
        if name not in MARGIN_GROUPS:
            raise InvalidInput(
                f"group_by: {shortened(name, 80)!r} is unknown; choose from {', '.join(MARGIN_GROUPS)}",
                param="group_by",
            )
    if len(set(group_by)) != len(group_by):
        raise InvalidInput("group_by: names a column twice", param="group_by")
    if where.from_ms is not None and where.to_ms is not None and where.to_ms <= where.from_ms:
        raise InvalidInput("to: must be after from", param="to")
