"""How answers are shown: tables for people, YAML and JSON for programs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.clock import SYSTEM_CLOCK, rfc3339
from common.vocabulary import harmless
from control.console.formats import Output
from control.console.terminal import Terminal, json_text, write_out

Document = Mapping[str, Any]


_MOMENT = re.compile(r"^[ -]*\w+Ms: (\d{12,14})$", re.MULTILINE)
FOLDED_CHARACTERS = 10
"""A column on a terminal gets at least so many, where its texts have as many."""
GAP = 2
"""Between columns."""
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
    "paused": "yellow",
    "CrashLoopBackOff": "red",
    "Failed": "red",
    "failed": "red",
    "False": "red",
    "error": "red",
    "revoked": "red",
    "Retrying": "yellow",
    "Collecting": "yellow",
    "Suspended": "dim",
    "Cancelled": "dim",
    "cancelled": "dim",
}


def console() -> Console:
    """The terminal, as wide as it is. Where it is none, lines are as long as they are: programs read them."""
    out = Terminal(highlight=False, soft_wrap=False)
    return out if out.is_terminal else Terminal(highlight=False, soft_wrap=True, width=max(out.width, 100))


def print_document(content: object, output: Output) -> None:
    """Print JSON or YAML to standard output."""
    if output is Output.JSON:
        text = json_text(content, indent=2) + "\n"
    else:
        import yaml

        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
        if "Ms:" not in json_text(content):  # else a text may hold what looks like a field
            text = with_moments(text)
    write_out(text)


def with_moments(text: str) -> str:
    """YAML in which a comment says which moment a number of milliseconds since 1970 is."""
    return _MOMENT.sub(lambda found: f"{found[0]}  # {rfc3339(int(found[1]))}", text)


def to_stderr(text: str) -> None:
    """A line that is no answer, beside what programs read."""
    Terminal(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False, style="dim")


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    out: Console | None = None,
    *,
    widths: Sequence[int] | None = None,
) -> list[int]:
    """Print a table without lines, one row per thing; numbers to the right, phases in colour.

    On a terminal long texts wrap in their column; elsewhere each row is one line, never cut. ``widths``: the
    rows go on under a table with columns so wide. Returns the widths of its own columns.
    """
    out = out or console()
    cells = [[cell(value) for value in row] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row[column], int) for row in rows) for column in range(len(headers))
    ]
    if widths is None and out.is_terminal:
        out.print(_folding(headers, cells, numeric, out.width))
    lines = [[_in_a_line(text) for text in row] for row in cells]
    longest = [
        max([len(header), *(row[column].cell_len for row in lines)]) for column, header in enumerate(headers)
    ]
    if widths is not None or not out.is_terminal:
        _print_lines(headers, lines, out, widths or longest, numeric, headed=widths is None)
    return longest


def _in_a_line(text: Text) -> Text:
    return Text(" ".join(text.plain.split()), style=text.style)


def _print_lines(
    headers: Sequence[str],
    cells: Sequence[Sequence[Text]],
    out: Console,
    widths: Sequence[int],
    numeric: Sequence[bool],
    *,
    headed: bool,
) -> None:
    heading = [[Text(header, style="bold") for header in headers]] if headed else []
    for row in (*heading, *cells):
        line = Text()
        for text, width, right in zip(row, widths, numeric, strict=True):
            space = " " * max(0, width - text.cell_len)
            line.append(space if right else "").append_text(text).append("" if right else space).append("  ")
        line.rstrip()
        out.print(line, soft_wrap=True)


def _folding(
    headers: Sequence[str],
    cells: Sequence[Sequence[Text]],
    numeric: Sequence[bool],
    width: int,
) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for header, taken, right in zip(headers, _widths(headers, cells, width), numeric, strict=True):
        table.add_column(header, justify="right" if right else "left", overflow="fold", width=taken)
    for row in cells:
        table.add_row(*row)
    return table


def _widths(headers: Sequence[str], cells: Sequence[Sequence[Text]], width: int) -> list[int]:
    """What each column takes: what it needs least, and as much of the rest as others that want more."""
    whole = [
        max([cell_len(header), *(row[column].cell_len for row in cells)])
        for column, header in enumerate(headers)
    ]
    widths, room = _least_widths(headers, cells, width), width - GAP * len(headers)
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    while sum(widths) < room:
        wanting = [column for column in range(len(whole)) if widths[column] < whole[column]]
        if not wanting:
            break
        for column in wanting[: room - sum(widths)]:
            widths[column] += 1
    return [max(1, one) for one in widths]


def _least_widths(headers: Sequence[str], cells: Sequence[Sequence[Text]], width: int) -> list[int]:
    """How far columns may be folded: between words, so that no name breaks; within one where the terminal has
    no room for it, the longest first."""
    words = [
        max(map(cell_len, " ".join((header, *(row[column].plain for row in cells))).split()), default=0)
        for column, header in enumerate(headers)
    ]
    least = [min(one, FOLDED_CHARACTERS) for one in words]
    for column in sorted(range(len(words)), key=lambda column: words[column]):
        more = words[column] - least[column]
        if sum(least) + more + GAP * len(least) <= width:
            least[column] += more
    return least


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
