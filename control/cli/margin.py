"""margin: what models were charged beside what making it cost."""

from __future__ import annotations

from typing import Annotated

import typer

from control.cli.asking.options import OutputOption, session_of
from control.console.formats import Output
from control.console.output import console, print_document
from control.console.tables.margin_table import print_margins
from control.console.told.moments import begin_of


def margin(
    context: typer.Context,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="Group by these: model_identity, device_class, month, day, tenant, project, tag:<name>.",
        ),
    ] = "model_identity",
    begin: Annotated[str | None, typer.Option("--from", help="Begin, like 2026-11-01.")] = None,
    since: Annotated[str, typer.Option("--since", help="Begin so long ago, like 24h or 30d.")] = "",
    until: Annotated[str | None, typer.Option("--until", help="End (not included).")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what models were charged beside what making it cost.

    By a million tokens, too. For platform-admins; the settings `costs` of control say what devices cost.

    By tenant, project or tag, what a model's devices cost is shared out by tokens.

    Examples: computility margin --by model_identity,month --since 90d; computility margin --by tag:team
    """
    asked = {"from_": begin_of(begin, since), "to": until}
    with session_of(context).client() as client:
        found = client.margins(group_by=by, **{name: one for name, one in asked.items() if one})
    if output in (Output.YAML, Output.JSON):
        print_document(found, output)
    else:
        print_margins(console(), found)
