"""How the tides between inference and training are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from control.console.tables.bars import devices

TITLES = ("DEVICE", "FOR INFERENCE", "CALENDAR", "LOAD", "WHY")


def tide_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One row per class of devices: how many are for inference, by what, and why."""
    table = Table(box=None, pad_edge=False, header_style="bold dim", padding=(0, 2, 0, 0))
    for position, title in enumerate(TITLES):
        table.add_column(title, justify="right" if 0 < position < 4 else "left", overflow="fold")
    for row in rows:
        by_load = row.get("loadMillis")
        table.add_row(
            row["deviceClass"],
            devices(row["inferenceMillis"]),
            devices(row["calendarMillis"]),
            "-" if by_load is None else devices(by_load),
            row["reason"],
        )
    return table
