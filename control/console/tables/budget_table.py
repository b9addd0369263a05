"""Budgets as a table, with what they have come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from common.clock import parse_rfc3339
from common.units import format_credits
from control.console.output import age, print_table

BAR_CELLS = 20
_HEADERS = ["NAME", "SCOPE", "PERIOD", "ENFORCEMENT", "LIMIT", "SPENT", "HELD", "LEFT", "", "RESETS IN"]


def print_budgets(out: Console, items: Sequence[Mapping[str, Any]], now_ms: int) -> None:
    """One row for each budget."""
    if not items:
        out.print("there are no budgets that you may see", style="dim")
        return
    print_table(_HEADERS, [_row(one, now_ms) for one in items], out)


def _row(one: Mapping[str, Any], now_ms: int) -> list[object]:
    amounts = [amount_text(one[name], one["unit"]) for name in ("limit", "spent", "held", "left")]
    resets = one["resetsAt"]
    period = one["period"] if one["inForce"] else f"{one['period']} (not in force)"
    return [
        one["name"],
        scope_text(one["scope"]),
        period,
        one["enforcement"],
        *amounts,
        bar(one["spent"], one["held"], one["limit"]),
        age(now_ms, parse_rfc3339(resets)) if resets else "never",
    ]


def print_binding(out: Console, items: Sequence[Mapping[str, Any]], now_ms: int) -> None:
    """A line for each budget that binds a key: ``budget  acme-month: 40.00 of 100.00 spent, …``."""
    for one in items:
        limit, spent, left = (amount_text(one[name], one["unit"]) for name in ("limit", "spent", "left"))
        resets = f", begins anew in {age(now_ms, parse_rfc3339(one['resetsAt']))}" if one["resetsAt"] else ""
        told = "" if one["enforcement"] == "hard" else " (told only)"
        line = f"{one['name']}: {spent} of {limit} spent, {left} left{resets}{told}"
        out.print(f"{'budget':8} {line}", markup=False, soft_wrap=True, highlight=False)


def scope_text(scope: Mapping[str, Any]) -> str:
    """``acme, project bots, team=search``."""
    named = (f"{name} {scope[name]}" for name in ("project", "key", "user") if scope.get(name))
    tags = (f"{name}={value}" for name, value in sorted(scope.get("tags", {}).items()))
    return ", ".join((scope["tenant"], *named, *tags))


def amount_text(amount: int, unit: str) -> str:
    """Money as credits, device time as hours, tokens as they are."""
    if unit == "microcredits":
        return format_credits(amount)
    if unit == "device_seconds":
        return f"{amount / 3600:.2f} h"
    return f"{amount:,} tokens"


def bar(spent: int, held: int, limit: int) -> str:
    """``████▒▒      ``: what is spent, then what is held, of the limit."""
    full = min(BAR_CELLS, spent * BAR_CELLS // limit)
    both = min(BAR_CELLS, -(-(spent + held) * BAR_CELLS // limit))
    return "█" * full + "▒" * (both - full) + "·" * (BAR_CELLS - max(full, both))
