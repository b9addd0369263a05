"""reconcile: what engines have counted beside what the events say, and the sums of the ledger."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from control.cli.asking.options import OutputOption, session_of
from control.console.formats import Output
from control.console.output import console, print_document, print_table

DRIFT_EXIT_CODE = 1
HEADERS = ["ENGINE", "FROM", "TO", "RESULT", "PROMPT", "COMPLETION", "NOT COUNTED", "NOT BILLED"]


def reconcile(
    context: typer.Context,
    every: Annotated[
        bool, typer.Option("--all", help="Also the windows in which engines and events agree.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show where engines' counters, events and ledger differ.

    Exit code 1 where something is drift. For platform-admins.

    A window is a span of time of one engine. Within: it has requests that two engines shared, or that lie on
    its edge. Unbilled: the engine made more than anybody received, for requests that were cut off or lost
    with their gateway. Drift: no rule explains it.

    Example: computility reconcile --all
    """
    with session_of(context).client() as client:
        found = client.reconciliation()
    drifts = [one for one in found["items"] if one["result"] == "drift"]
    if output in (Output.YAML, Output.JSON):
        print_document(found, output)
    else:
        _print(found, every)
    if drifts or found["ledgerApart"]:
        raise typer.Exit(DRIFT_EXIT_CODE)


def _print(found: Any, every: bool) -> None:
    shown = [one for one in found["items"] if every or one["result"] in ("unbilled", "drift")]
    if shown:
        print_table(HEADERS, [_row(one) for one in shown])
    out = console()
    agree = sum(one["result"] in ("equal", "within") for one in found["items"])
    out.print(
        f"{found['engines']} engines, {len(found['items'])} windows judged: {agree} agree with the events"
    )
    apart = found["ledgerApart"]
    if apart is None:
        out.print("the sums of the ledger have not been looked at yet")
    elif not apart:
        out.print("events, totals, charges and accounts of yesterday and today agree")
    else:
        out.print(f"sums of the ledger differ: {', '.join(f'{name} by {by}' for name, by in apart.items())}")


def _row(one: Any) -> list[str]:
    return [
        f"{one['endpoint']}/{one['engine']}",
        one["from"],
        one["to"],
        one["result"],
        str(one["counted"]["prompt"]),
        str(one["counted"]["completion"]),
        str(one["missing"]["prompt"] + one["missing"]["completion"]),
        str(one["surplus"]["prompt"] + one["surplus"]["completion"]),
    ]
