"""budget: what may be spent, and what is."""

from __future__ import annotations

from typing import Annotated

import typer

from common.client_transport import Document
from common.clock import SYSTEM_CLOCK
from control.cli.asking.options import OutputOption, session_of
from control.console.formats import Output
from control.console.output import console, print_document
from control.console.tables.budget_table import print_budgets

budget_app = typer.Typer(help="Show budgets: spent, held, left.", no_args_is_help=True)


@budget_app.command("list")
def list_(context: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """Show all budgets that you may see, with what their periods have come to.

    Example: computility budget list
    """
    with session_of(context).client() as client:
        _show(client.budget_balances(), output)


@budget_app.command("get")
def get(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the Budget.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one budget.

    Example: computility budget get acme-month
    """
    with session_of(context).client() as client:
        _show(client.budget_balances(name), output)


def _show(answer: Document, output: Output) -> None:
    if output in (Output.YAML, Output.JSON):
        print_document(answer, output)
    else:
        print_budgets(console(), answer["items"], SYSTEM_CLOCK.now_ms())
