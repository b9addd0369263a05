"""A dry run of price books as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from common.units import format_credits
from control.console.output import print_table


def print_dry_run(out: Console, answer: Mapping[str, Any]) -> None:
    """One row per tenant, the total last; then what would have no price, and the warnings."""
    if not answer["total"]["events"]:
        out.print("nothing was used", style="dim")
    else:
        rows = [_row(one["tenant"], one) for one in answer["tenants"]]
        rows.append(_row("total", answer["total"]))
        print_table(["TENANT", "EVENTS", "CHARGED", "WOULD BE", "DIFFERENCE", "PERCENT"], rows, out)
    told = [f"no price: {one}" for one in answer["unpriced"]]
    for line in (*told, *answer["warnings"]):
        out.print(line, style="yellow", markup=False, highlight=False)


def _row(name: str, sums: Mapping[str, Any]) -> list[object]:
    charged, difference = sums["charged_microcredits"], sums["difference_microcredits"]
    sign = "+" if difference > 0 else ""
    return [
        name,
        sums["events"],
        format_credits(charged),
        format_credits(sums["microcredits"]),
        f"{sign}{format_credits(difference)}",
        f"{_percent(difference, charged)}" if charged else "-",
    ]


def _percent(part: int, whole: int) -> str:
    """``+12.5%``, rounded toward zero."""
    thousandths = abs(part) * 1000 // whole
    sign = "" if not thousandths else "-" if part < 0 else "+"
    return f"{sign}{thousandths // 10}.{thousandths % 10}%"
