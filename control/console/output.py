"""How answers are shown: tables for people, YAML and JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.clock import SYSTEM_CLOCK
from common.vocabulary import harmless
from control.console.terminal import Terminal, json_text, write_out

Document = Mapping[str, Any]


class Output(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    WIDE = "wide"
    YAML = "yaml"
    JSON = "json"


PHASE_STYLES = {
    "Ready": "green",
    "Running": "green",
    "Succeeded": "green",
    "succeeded": "green",
    "running": "green",
    "True": "green",
    "Starting": "yellow",
    "Pending": "yellow",
    "Restarting": "yellow",
    "Preempting": "yellow",
    "Resizing": "yellow",
    "Migrating": "yellow",
    "Stopping": "yellow",
    "queued": "yellow",
    "validating_files": "yellow",
    "NotReady": "yellow",
    "warning": "yellow",
    "Failed": "red",
    "failed": "red",
    "False": "red",
    "error": "red",
    "revoked": "red",
    "Suspended": "dim",
    "cancelled": "dim",
}


def console() -> Console:
    """The terminal; as wide as it is, and never narrower than 100 columns when it is none."""
    out = Terminal(highlight=False, soft_wrap=False)
    return out if out.is_terminal else Terminal(highlight=False, width=max(out.width, 100))


def print_document(content: object, output: Output) -> None:
    """Print JSON or YAML to standard output."""
    if output is Output.JSON:
        text = json_text(content, indent=2) + "\n"
    else:
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    write_out(text)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], out: Console | None = None) -> None:
    """Print a table without lines, one row per thing; numbers to the right, phases in colour."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for position, header in enumerate(headers):
        numeric = bool(rows) and all(isinstance(row[position], int) for row in rows)
        table.add_column(header, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    (out or console()).print(table)


def cell(value: object) -> Text:
    """One value as it stands in a table."""
    if value is None or value == "":
        return Text("-", style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, int):
        return Text(f"{value:,}")
    text = harmless(str(value))
    return Text(text, style=PHASE_STYLES.get(text, ""))


def age(created_ms: int | None, now_ms: int | None = None) -> str:
    """How long ago, in the largest unit that fits: ``42s``, ``5m``, ``3h``, ``12d``."""
    if not created_ms:
        return "-"
    seconds = max(0, ((now_ms or SYSTEM_CLOCK.now_ms()) - created_ms) // 1000)
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // divisor}{unit}"
    return f"{seconds // 86_400}d"
