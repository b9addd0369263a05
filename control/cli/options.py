"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from control.cli.session import Session
from control.console.output import Output

OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, wide, yaml or json.")]
ProjectOption = Annotated[
    str | None, typer.Option("--project", "-p", help="Project; unset = that of the key, or all that it sees.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON; the same as -o json.")]
NameArgument = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Name; unset = all.")]


def session_of(context: typer.Context) -> Session:
    """The session that the global options made."""
    session = context.obj
    if not isinstance(session, Session):
        raise TypeError("the command was called without its application")
    return session
