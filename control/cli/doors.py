"""route: whom a Route would ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.errors import InvalidInput
from common.private import at_home
from common.strict_json import parse_json
from control.cli.asking.options import OutputOption, ProjectOption, project_of, session_of
from control.console.formats import Output
from control.console.output import console, print_document, print_table

route_app = typer.Typer(help="Show whom a Route would ask.", no_args_is_help=True)


@route_app.callback()
def _group() -> None:
    """Show whom a Route would ask."""


@route_app.command()
def explain(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the Route.")],
    filename: Annotated[
        Path | None, typer.Option("--filename", "-f", help="JSON of the request; unset = a short chat.")
    ] = None,
    data_class: Annotated[
        str | None, typer.Option("--data-class", help="What the request says of its data.")
    ] = None,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say whom a Route would ask for a request, in which order, and why not the others. Nobody is asked.

    Example: computility route explain smart -f request.json --data-class regulated
    """
    request = None
    if filename is not None:
        try:
            request = parse_json(at_home(str(filename)).read_bytes())
        except OSError as error:
            raise InvalidInput(f"{filename}: {error.strerror}", param="--filename") from error
    with session_of(context).client() as client:
        answer = client.explain_route(
            name, project=project_of(context, project), request=request, data_class=data_class
        )
    if output in (Output.YAML, Output.JSON):
        print_document(answer, output)
        return
    rows = [[one["model"], "asked", _engines(one["engines"])] for one in answer["asked"]]
    rows += [[one["model"], one["reason"], one["words"]] for one in answer["refused"]]
    console().print(f"{answer['route']}, {answer['dataClass']} data")
    print_table(("MODEL", "VERDICT", "WHY"), rows)


def _engines(count: int | None) -> str:
    return "served by others" if count is None else f"{count} engines"
