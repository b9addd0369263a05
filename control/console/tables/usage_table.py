"""The bill as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from common.units import format_credits
from control.console.output import print_table
from control.console.tables.bars import bar

METER_TITLES = {
    "prompt_tokens": "PROMPT",
    "cached_tokens": "CACHED",
    "completion_tokens": "COMPLETION",
    "trained_tokens": "TRAINED",
    "device_seconds": "DEVICE-SECONDS",
}


def print_usage(out: Console, report: Mapping[str, Any]) -> None:
    """The bill: one row per group with its share of the credits, the total last."""
    rows = report["rows"] or [report["total"]]
    if not report["total"]["events"]:
        out.print("nothing was used", style="dim")
        return
    groups, total = report["group_by"], report["total"]
    meters = [meter for meter in METER_TITLES if total[meter]]
    unpriced = bool(total["unpriced_lines"])
    unit = report.get("compute_unit") if total.get("compute_unit_millis") else None
    whole = total["microcredits"]
    shares = len(rows) > 1 and whole > 0
    headers = [
        *(group if group.startswith("tag:") else group.upper().replace("_", " ") for group in groups),
        *(METER_TITLES[m] for m in meters),
        *([f"CARD-HOURS ({unit})"] if unit else []),
        "CREDITS",
        *(["WITHOUT PRICE"] if unpriced else []),
        *(["SHARE"] if shares else []),
    ]
    lines: list[list[object]] = [
        [
            *(row[group] for group in groups),
            *(row[meter] for meter in meters),
            *([_hours(row)] if unit else []),
            format_credits(row["microcredits"]),
            *([row["unpriced_lines"]] if unpriced else []),
            *([bar(row["microcredits"], whole)] if shares else []),
        ]
        for row in rows
    ]
    sums: list[object] = [*(total[meter] for meter in meters), *([_hours(total)] if unit else [])]
    sums.append(format_credits(total["microcredits"]))
    if unpriced:
        sums.append(total["unpriced_lines"])
    if shares:
        sums.append("")
    lines.append(["total", *("" for _ in groups[1:]), *sums])
    print_table(headers, lines, out)


def _hours(row: Mapping[str, Any]) -> str:
    """Standard compute units with their three places."""
    return f"{row['compute_unit_millis'] / 1000:,.3f}"
