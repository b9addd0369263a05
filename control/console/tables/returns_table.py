"""Outcomes, and what work brought beside what it cost, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from common.units import format_credits
from control.console.output import print_table
from control.console.tables.bars import bar

_RETURN_HEADERS = ("COST", "OUTCOMES", "VALUE", "NET", "ROI", "COST EACH", "QUALITY")
_OUTCOME_HEADERS = ("ID", "OF", "OUTCOME", "COUNT", "VALUE", "QUALITY", "CAME", "PROJECT", "")


def print_returns(out: Console, report: Mapping[str, Any]) -> None:
    """One row per group with its share of the value, the total last."""
    groups, rows, total = report["group_by"], report["rows"], report["total"]
    if not total["outcomes"] and not total["cost_microcredits"]:
        out.print("nothing was used, and nothing came of it", style="dim")
        return
    whole = total["value_microcredits"]
    shares = len(rows) > 1 and whole > 0
    headers = [*(_title(group) for group in groups), *_RETURN_HEADERS, *(["SHARE"] if shares else [])]
    lines: list[list[object]] = [
        [
            *(row[group] for group in groups),
            *_cells(row),
            *([bar(row["value_microcredits"], whole)] if shares else []),
        ]
        for row in rows
    ]
    if groups:
        lines.append(["total", *("" for _ in groups[1:]), *_cells(total), *([""] if shares else [])])
    else:
        lines.append(_cells(total))
    print_table(headers, lines, out)


def print_outcomes(out: Console, items: Sequence[Mapping[str, Any]]) -> None:
    """One row for each, those that were withdrawn marked."""
    if not items:
        out.print("there are no outcomes that you may see", style="dim")
        return
    rows = [
        [
            one["id"],
            one["work"],
            one["name"],
            one["count"],
            format_credits(one["value_microcredits"]),
            _millis(one["quality_millis"]),
            one["at"][:16],
            one["project"],
            "withdrawn" if one["withdrawn"] else "",
        ]
        for one in items
    ]
    print_table(_OUTCOME_HEADERS, rows, out)


def _title(group: str) -> str:
    return group if group.startswith("tag:") else group.upper()


def _cells(row: Mapping[str, Any]) -> list[object]:
    """Credits with all their places; a ratio that there is not is a dash."""
    roi, each = row["roi_millis"], row["cost_per_outcome_microcredits"]
    return [
        format_credits(row["cost_microcredits"]),
        row["outcomes"],
        format_credits(row["value_microcredits"]),
        format_credits(row["net_microcredits"]),
        "" if roi is None else f"{roi / 10:+.1f}%",
        "" if each is None else format_credits(each),
        _millis(row["quality_millis"]),
    ]


def _millis(millis: int | None) -> str:
    return "" if millis is None else f"{millis / 1000:.3f}"
