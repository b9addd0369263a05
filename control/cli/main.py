"""The command line `computility`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from common.environment import variable, variables
from common.errors import ComputilityError
from control.cli.asking.misspelt import odd_variables
from control.cli.asking.session import Session
from control.cli.commands import COMPLETE_VARIABLE, CONTEXT, CommandGroup

app = typer.Typer(
    cls=CommandGroup,
    name="computility",
    help="One pool, one API and one bill for a mixed fleet of accelerators.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings=CONTEXT,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from control.cli.machine.version import own_version

        typer.echo(own_version())
        raise typer.Exit


def _warn_of_odd_variables() -> None:
    for line in odd_variables(variables()):
        typer.echo(f"warning: {line}", err=True)


@app.callback()
def options(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option("--home", help="Folder of all state (COMPUTILITY_HOME). Default: ~/.computility"),
    ] = None,
    url: Annotated[
        str,
        typer.Option("--url", help="Control's URL (COMPUTILITY_CONTROL_BASE_URL). Default: as `up` kept it."),
    ] = "",
    gateway_url: Annotated[
        str,
        typer.Option(
            "--gateway-url", help="Gateway's URL with /v1, for chat (COMPUTILITY_GATEWAY_BASE_URL)."
        ),
    ] = "",
    key: Annotated[
        str, typer.Option("--key", help="API key (COMPUTILITY_API_KEY). Default: as `up` kept it.")
    ] = "",
    context_name: Annotated[
        str, typer.Option("--context", help="One of several Computilities; see `computility config`.")
    ] = "",
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Options of all commands; they stand before the command."""
    if not context.resilient_parsing:
        _warn_of_odd_variables()
        context.obj = Session.load(home, url, gateway_url, key, context_name)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code; no expected error shows a traceback."""
    if variable(COMPLETE_VARIABLE):
        from typer.completion import completion_init

        completion_init()
    try:
        app(arguments, prog_name="computility")
    except ComputilityError as error:
        from control.console import boundary

        sys.exit(boundary.show(error))
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
