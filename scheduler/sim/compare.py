"""``python -m scheduler.sim.compare BEFORE.json AFTER.json --html PAGE``: two simulations side by side.

The files are what ``python -m scheduler.sim --json`` printed. The tables go to stdout as Markdown; figures
that one of the files lacks are dashes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import ComputilityError, InvalidInput, mapping_of
from scheduler.sim.report import Table, duration, html_page, write_page

Figures = Mapping[str, Any]
"""A simulation's ``SimResult.summary()``, as read from JSON."""

NOTHING = "–"
FIGURES: tuple[tuple[str, tuple[str, ...], Callable[[float], str]], ...] = (
    ("hours", ("horizon_hours",), lambda value: f"{value:,.0f}"),
    ("jobs completed", ("jobs", "completed"), lambda value: f"{value:,.0f}"),
    ("wait, mean", ("wait_seconds", "mean"), duration),
    ("wait, median", ("wait_seconds", "p50"), duration),
    ("wait, 90 %", ("wait_seconds", "p90"), duration),
    ("wait, 99 %", ("wait_seconds", "p99"), duration),
    ("completion, mean", ("completion_seconds", "mean"), duration),
    ("devices held", ("utilisation_percent",), lambda value: f"{value:.1f} %"),
    ("devices stranded", ("stranded_devices_mean",), lambda value: f"{value:.2f}"),
    ("fairness (Jain)", ("fairness_jain_mean",), lambda value: f"{value:.3f}"),
    ("preemptions", ("decisions", "preempt"), lambda value: f"{value:,.0f}"),
    ("preemptions for nothing", ("useless_preemptions",), lambda value: f"{value:,.0f}"),
    ("preemptions voided from outside", ("voided_preemptions",), lambda value: f"{value:,.0f}"),
    ("device-hours lost to preemption", ("device_hours", "lost"), lambda value: f"{value:,.0f}"),
)
"""What the first table tells: its name, where it is in the figures, and how it is written."""
WAITS = (("mean", "mean"), ("p50", "median"), ("p90", "90 %"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or that of the error."""
    options = _parser().parse_args(arguments)
    try:
        tables = compared(read_figures(options.before), read_figures(options.after))
        if options.html:
            write_page(options.html, html_page("Before and after", _lead(options), tables=tables), "html")
    except ComputilityError as error:
        print(f"error: {error}", file=sys.stderr)
        return mapping_of(error).exit_code
    print("\n\n".join(_markdown(table) for table in tables))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scheduler.sim.compare", description="Two simulations side by side."
    )
    parser.add_argument("before", type=Path, help="what `python -m scheduler.sim --json` printed")
    parser.add_argument("after", type=Path, help="the same, of the simulation to compare with it")
    parser.add_argument("--html", type=Path, help="write an HTML page there")
    return parser


def _lead(options: argparse.Namespace) -> str:
    return f"{options.before.name} and {options.after.name}; each pair is before → after."


def read_figures(path: Path) -> Figures:
    """A simulation's figures; ``InvalidInput`` where the file is none that ``--json`` printed."""
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}", param="path") from error
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON: {error}", param="path") from error
    if not isinstance(figures, dict) or "utilisation_percent" not in figures:
        told = "has no figures of a simulation: give what `python -m scheduler.sim --json` printed"
        raise InvalidInput(f"{path} {told}", param="path")
    return figures


def compared(before: Figures, after: Figures) -> list[Table]:
    """The figures, then waits by queue and by size and the use of each vendor."""
    both = before, after
    rows = [(name, *(_written(_at(one, path), write) for one in both)) for name, path, write in FIGURES]
    return [
        Table("Figures", "", ("", "before", "after"), rows),
        _wait_table("Waits by queue", "queue", "wait_seconds_by_queue", both),
        _wait_table("Waits by size", "devices", "wait_seconds_by_size", both),
        _vendor_table(both),
    ]


def _wait_table(title: str, what: str, key: str, both: tuple[Figures, Figures]) -> Table:
    rows = [
        (name, *(_pair(both, (key, name, figure), duration) for figure, _ in WAITS))
        for name in _names(both, key)
    ]
    return Table(title, "Of jobs that started.", (what, *(f"wait, {told}" for _, told in WAITS)), rows)


def _vendor_table(both: tuple[Figures, Figures]) -> Table:
    key = "utilisation_percent_by_vendor"
    rows = [(name, _pair(both, (key, name), lambda part: f"{part:.1f} %")) for name in _names(both, key)]
    return Table("Vendors", "Devices held on average.", ("vendor", "held"), rows)


def _names(both: tuple[Figures, Figures], key: str) -> list[str]:
    """In the order of the first file; what only the second one has comes last."""
    parts = (one.get(key) for one in both)
    return list(dict.fromkeys(name for part in parts if isinstance(part, dict) for name in part))


def _pair(both: tuple[Figures, Figures], path: tuple[str, ...], write: Callable[[float], str]) -> str:
    return " → ".join(_written(_at(one, path), write) for one in both)


def _at(figures: Figures, path: tuple[str, ...]) -> float | None:
    """The number there; None where there is none. Nothing decided that way counts as 0."""
    found: Any = figures
    for name in path:
        if not isinstance(found, dict):
            return None
        found = found.get(name, 0 if path[0] == "decisions" else None)
    return found if isinstance(found, int | float) else None


def _written(value: float | None, write: Callable[[float], str]) -> str:
    return NOTHING if value is None else write(value)


def _markdown(table: Table) -> str:
    lines = [table.columns, ("---", *("---:" for _ in table.columns[1:])), *table.rows]
    return "\n".join([f"**{table.title}**", "", *(f"| {' | '.join(cells)} |" for cells in lines)])


if __name__ == "__main__":
    sys.exit(main())
