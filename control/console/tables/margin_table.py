"""Margins as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from common.units import format_credits
from control.console.output import print_table

_HEADERS = (
    "TOKENS",
    "DEVICE-HOURS",
    "CHARGED",
    "MADE",
    "MARGIN",
    "",
    "CHARGED PER MILLION",
    "MADE PER MILLION",
)
_RATES = ("DEVICE CLASS", "AN HOUR BUSY", "AN HOUR IDLE")


def print_margins(out: Console, report: Mapping[str, Any]) -> None:
    """One row per group, the total last; then what devices cost, and what has no cost."""
    groups, total = report["group_by"], report["total"]
    headers = [*(group.upper().replace("_", " ") for group in groups), *_HEADERS]
    lines: list[list[object]] = [[*(row[group] for group in groups), *_cells(row)] for row in report["rows"]]
    lines = lines if groups else []
    lines.append([*(["total"] if groups else []), *("" for _ in groups[1:]), *_cells(total)])
    print_table(headers, lines, out)
    if report["devices"]:
        rates = [
            [
                one["device_class"],
                format_credits(one["busy_hour_microcredits"]),
                format_credits(one["idle_hour_microcredits"]),
            ]
            for one in report["devices"]
        ]
        out.print()
        print_table(_RATES, rates, out)
    if total["uncosted_device_seconds"]:
        hours = total["uncosted_device_seconds"] / 3600
        out.print(
            f"{hours:,.2f} device-hours are of classes without a cost, and not among what was made; "
            "the setting costs.devices names what they cost",
            style="dim",
        )


def _cells(row: Mapping[str, Any]) -> list[object]:
    percent = row["margin_millis"]
    return [
        row["tokens"],
        f"{row['device_seconds'] / 3600:,.2f}",
        format_credits(row["charged_microcredits"]),
        format_credits(row["made_microcredits"]),
        format_credits(row["margin_microcredits"]),
        "" if percent is None else f"{percent / 10:+.1f}%",
        *(
            "" if row[name] is None else format_credits(row[name])
            for name in ("charged_per_million_tokens_microcredits", "made_per_million_tokens_microcredits")
        ),
    ]
