"""The report of margins: what models were charged, beside what the devices that did the work cost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from billing.core.device_costs import CostTable, Margin, shares
from billing.reports import MAX_ROWS, check_group, check_grouping
from billing.store import Ledger, UsageFilter, UsageRow
from common.errors import InvalidInput

OF_WORK = ("model_identity", "device_class", "month", "day")
"""What a Model's tokens and the device time that made them have in common."""
MARGIN_GROUPS = (*OF_WORK, "tenant", "project")
_MODEL = "model_identity"
_ALWAYS = (_MODEL, "device_class", "kind")
"""Whose cost it is, what costs go by, and what tells tokens from device time."""


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
    """By any of ``MARGIN_GROUPS`` and of tags; work that is no Model's stands under an empty name.

    An engine's device time is not that of one of those whom it serves: by tenant, project or tag, what a
    Model's devices cost is shared out by the tokens of each. Where there are none, it stays with whoever
    held the devices.

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
    return await asyncio.to_thread(_report, costs, group_by, used)


def _report(costs: CostTable, group_by: Sequence[str], used: Sequence[UsageRow]) -> MarginReport:
    """Of many rows it takes seconds."""
    parts = [_margin_of(row, costs) for row in used]
    if any(name not in OF_WORK for name in group_by):
        parts = _shared_out(used, parts, [_MODEL, *(name for name in group_by if name in OF_WORK)])
    rows: dict[tuple[str, ...], Margin] = {}
    for row, part in zip(used, parts, strict=True):
        key = tuple(row.group[name] for name in group_by)
        rows[key] = rows.get(key, Margin()) + part
    total = sum(parts, start=Margin())
    return MarginReport(tuple(group_by), {key: rows[key] for key in sorted(rows)}, total, costs)


def _shared_out(used: Sequence[UsageRow], parts: Sequence[Margin], by: Sequence[str]) -> list[Margin]:
    """The same parts, in which the devices' cost of a Model is that of its tokens."""
    pools: dict[tuple[str, ...], list[int]] = {}
    for at, row in enumerate(used):
        if row.group[_MODEL]:
            pools.setdefault(tuple(row.group[name] for name in by), []).append(at)
    shared = list(parts)
    for pool in pools.values():
        tokens = [parts[at].tokens for at in pool]
        if any(tokens):
            made = sum((parts[at].made_microcredits for at in pool), Fraction(0))
            for at, share in zip(pool, shares(made, tokens), strict=True):
                shared[at] = replace(parts[at], made_microcredits=share)
    return shared


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
        check_group(name, groups=MARGIN_GROUPS)
    check_grouping(group_by, where)
