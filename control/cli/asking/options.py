"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from control.cli.asking.kinds import all_names
from control.cli.asking.session import Session
from control.cli.asking.suggestions import kinds_from, names_from, projects_from
from control.console.formats import Output

KIND_HELP = f"Kind: singular, plural or short name. {all_names()}"
KindArgument = Annotated[str, typer.Argument(help=KIND_HELP, metavar="KIND", autocompletion=kinds_from)]
OptionalKind = Annotated[
    str | None, typer.Argument(help=KIND_HELP, metavar="[KIND]", autocompletion=kinds_from)
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Its name.", autocompletion=names_from)]
OptionalName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Its name.", autocompletion=names_from)
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, wide, yaml or json.")]
ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project",
        "-p",
        "-n",
        "--namespace",
        help="Project; unset = that of the context or key, or all that it sees.",
        autocompletion=projects_from,
    ),
]
LongProjectOption = Annotated[
    str | None,
    typer.Option("--project", "-n", help="Project; unset = as elsewhere.", autocompletion=projects_from),
]
"""Where ``-p`` means something else, as to kubectl."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON; the same as -o json.")]
FilesOption = Annotated[
    list[str],
    typer.Option("--filename", "-f", help="File or folder of YAML or JSON, or - for standard input."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check and tell what would change; change nothing.")
]


def session_of(context: typer.Context) -> Session:
    """The session that the global options made."""
    session = context.obj
    if not isinstance(session, Session):
        raise TypeError("the command was called without its application")
    return session


def project_of(context: typer.Context, project: str | None) -> str | None:
    """The project that is told, else that of the context; None = all that the key sees."""
    return project or session_of(context).project
