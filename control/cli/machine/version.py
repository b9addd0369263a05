"""version, help: what this is, and how its commands are called."""

from __future__ import annotations

from typing import Annotated

import typer

from common.errors import ComputilityError, InvalidInput
from control.cli.asking.options import session_of


def own_version() -> str:
    """The version of what runs here, in a line."""
    import importlib.metadata

    return f"computility {importlib.metadata.version('computility')}"


def version(context: typer.Context) -> None:
    """Print the version here and, where it runs, that of control.

    Example: computility version
    """
    typer.echo(own_version())
    try:
        with session_of(context).client() as client:
            typer.echo(f"control     {client.version()['version']} at {client.base_url}")
    except ComputilityError as error:
        typer.echo(f"control     not reached ({error.message.splitlines()[0]})")


def help_(
    context: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(help="The command; unset = all of them.")] = None,
) -> None:
    """Show the help of a command.

    Example: computility help get; computility help keys create
    """
    parent = context.parent
    if parent is None:
        raise TypeError("the command was called without its application")
    shown, found = parent, parent.command
    for name in command or ():
        inner = getattr(found, "get_command", lambda *_: None)(shown, name)
        if inner is None:
            raise InvalidInput(f"there is no command {' '.join(command or ())!r}", param="COMMAND")
        shown, found = type(parent)(inner, info_name=name, parent=shown), inner
    typer.echo(found.get_help(shown))
