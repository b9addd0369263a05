"""The command line `computility`."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.errors import ComputilityError
from control.cli.chat import chat
from control.cli.demo import demo
from control.cli.doctor import doctor
from control.cli.examples import examples
from control.cli.keys import keys_app
from control.cli.lifecycle import down, up
from control.cli.observe import events, explain, logs, usage
from control.cli.options import session_of
from control.cli.plan import plan
from control.cli.pool import simulate, top
from control.cli.resources import apply, delete, describe, get
from control.cli.session import Session
from control.cli.verify import verify
from control.console import boundary

app = typer.Typer(
    name="computility",
    help="One pool, one API and one bill for a mixed fleet of accelerators.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
HERE, STATE, INSIGHT, ACCESS = (
    "On this machine",
    "Resources",
    "What happens, and what it costs",
    "Models and keys",
)
for panel, commands in (
    (HERE, (up, down, demo, doctor)),
    (STATE, (apply, get, describe, delete, examples)),
    (INSIGHT, (top, explain, simulate, plan, logs, events, usage)),
    (ACCESS, (chat, verify)),
):
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(keys_app, name="keys", rich_help_panel=ACCESS)


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
) -> None:
    """Options of all commands; they stand before the command."""
    if not context.resilient_parsing:
        context.obj = Session.load(home, url, gateway_url, key)


@app.command(rich_help_panel=HERE)
def version(context: typer.Context) -> None:
    """Print the version here and, where it runs, that of control."""
    typer.echo(f"computility {importlib.metadata.version('computility')}")
    try:
        with session_of(context).client() as client:
            typer.echo(f"control     {client.version()['version']} at {client.base_url}")
    except ComputilityError as error:
        typer.echo(f"control     not reached ({error.message.splitlines()[0]})")


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code; no expected error shows a traceback."""
    try:
        app(arguments, prog_name="computility")
    except ComputilityError as error:
        sys.exit(boundary.show(error))
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
