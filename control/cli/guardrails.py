"""guardrails: what a policy would do to a text."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from control.cli.asking.options import OutputOption, session_of
from control.console.formats import Output
from control.console.output import console, print_document, print_table

guardrails_app = typer.Typer(help="Try guardrails on texts.", no_args_is_help=True)


@guardrails_app.callback()
def guardrails() -> None:
    """Try guardrails on texts."""


@guardrails_app.command("test")
def try_text(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the Guardrail.")],
    text: Annotated[str, typer.Argument(help="What would be sent to a model, or come from it.")],
    direction: Annotated[
        Literal["input", "output"], typer.Option(help="input: sent to a model; output: written by it.")
    ] = "input",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what a Guardrail would do to a text. Nothing is sent to a model.

    Example: computility guardrails test acme-privacy 'write to jo@example.org'
    """
    with session_of(context).client() as client:
        tried = client.guardrail_trial(name, text, direction)
    if output in (Output.YAML, Output.JSON):
        print_document(tried, output)
        return
    out = console()
    if tried["hits"]:
        rows = [[one["guard"], one["action"], one["count"]] for one in tried["hits"]]
        print_table(["GUARD", "ACTION", "HITS"], rows, out)
    else:
        out.print("nothing is found", style="dim")
    if tried["blockedBy"]:
        out.print(f"blocked by {tried['blockedBy']}", markup=False, highlight=False)
    else:
        out.print(tried["text"], markup=False, highlight=False, soft_wrap=True)
