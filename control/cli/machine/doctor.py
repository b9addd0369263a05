"""doctor: is this machine fit to run Computility, and if not, what to do."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from control.cli.asking.options import OutputOption, session_of
from control.cli.doctor_checks.checks import CHECKS, Check
from control.cli.doctor_checks.loop_check import check_loops
from control.cli.doctor_checks.set_aside_check import check_set_aside
from control.cli.doctor_checks.usage_check import check_usage
from control.console.formats import Output
from control.console.output import console, print_document

MARKS = {"ok": "[green]ok  [/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]fail[/red]"}


def doctor(context: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Check this machine and the platform on it, and say what to do.

    Looked at: Python, engine, devices, memory, disk, ports, control, what it keeps, and unposted usage. The
    exit code is 1 when something fails. Example: computility doctor -o json
    """
    settings = session_of(context).settings
    checks = [check(settings) for check in (*CHECKS, check_loops, check_set_aside, check_usage)]
    if output in (Output.YAML, Output.JSON):
        print_document(report(checks), output)
    else:
        show(checks)
    if any(check.level == "fail" for check in checks):
        raise typer.Exit(1)


def report(checks: Sequence[Check]) -> dict[str, object]:
    """All findings for programs."""
    return {"ok": all(c.level != "fail" for c in checks), "checks": [c.to_dict() for c in checks]}


def show(checks: Sequence[Check]) -> None:
    """All findings for people."""
    out = console()
    for check in checks:
        out.print(f"{MARKS[check.level]} [bold]{check.name:14}[/bold]", end=" ")
        out.print(check.message, markup=False, soft_wrap=True)
        if check.advice:
            out.print(f"{'':20}→ {check.advice}", markup=False, style="cyan", soft_wrap=True)
