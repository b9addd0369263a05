"""config: several Computilities by name."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from common.errors import InvalidInput
from control.cli.asking.contexts import Context, contexts_file, read_contexts, write_contexts
from control.cli.asking.options import OutputOption
from control.console.formats import Output
from control.console.output import console, print_document, print_table, to_stderr

config_app = typer.Typer(
    help="Several Computilities by name: contexts.", no_args_is_help=True, add_completion=False
)
NAME_CHARACTERS = 63


def _names(incomplete: str) -> list[str]:
    return sorted(name for name in read_contexts().known if name.startswith(incomplete))


ContextArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the context.", autocompletion=_names)
]


@config_app.command("list")
def list_(output: OutputOption = Output.TABLE) -> None:
    """List the contexts; the current one is marked. Keys are not shown.

    Example: computility config list
    """
    contexts = read_contexts()
    shown = [_shown(context) for context in contexts.known.values()]
    if output in (Output.YAML, Output.JSON):
        print_document({"current": contexts.current, "items": shown}, output)
        return
    rows = [
        [
            "*" if one["name"] == contexts.current else " ",
            one["name"],
            one["control_url"] or one["home"],
            one["project"],
            one["api_key"],
        ]
        for one in shown
    ]
    if not rows:
        to_stderr("no contexts; `computility config set NAME` makes one")
        return
    print_table(["CURRENT", "NAME", "WHERE", "PROJECT", "KEY"], rows)


def _shown(context: Context) -> dict[str, str]:
    values: dict[str, str] = asdict(context)
    return {**values, "api_key": f"{context.api_key[:6]}…" if context.api_key else ""}


config_app.command("get-contexts", hidden=True)(list_)


@config_app.command("set")
def set_(
    name: ContextArgument,
    home: Annotated[Path | None, typer.Option("--home", help="Folder of all state of a local one.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Control's URL.")] = None,
    gateway_url: Annotated[str | None, typer.Option("--gateway-url", help="Gateway's URL with /v1.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="API key; - = from standard input.")] = None,
    ca_file: Annotated[str | None, typer.Option("--ca-file", help="PEM of the authority to trust.")] = None,
    project: Annotated[str | None, typer.Option("--project", "-p", help="Project of its commands.")] = None,
    use: Annotated[bool, typer.Option("--use", help="Make it the current one.")] = False,
) -> None:
    """Make a context, or change what is told of one. An empty text takes a value away.

    Example: computility config set prod --url https://computility.example.com:8001 --key - --use
    """
    if not name or len(name) > NAME_CHARACTERS or not name.isprintable():
        raise InvalidInput(f"a context has a name of at most {NAME_CHARACTERS} characters", param="NAME")
    if key == "-":
        key = typer.get_text_stream("stdin").read().strip()
    told = {
        "home": str(home.expanduser().absolute()) if home else None,
        "control_url": url,
        "gateway_url": gateway_url,
        "api_key": key,
        "tls_ca_file": ca_file,
        "project": project,
    }
    contexts = read_contexts()
    context = contexts.known.get(name, Context(name))
    context = replace(context, **{field: value for field, value in told.items() if value is not None})
    contexts = contexts.with_context(context)
    write_contexts(contexts.using(name) if use or not contexts.current else contexts)
    console().print(f"context/{name} kept in {contexts_file()}", markup=False, soft_wrap=True)


@config_app.command()
def use(name: ContextArgument) -> None:
    """Make a context the current one.

    Example: computility config use prod
    """
    write_contexts(read_contexts().using(name))
    console().print(f"context/{name} is current", markup=False)


config_app.command("use-context", hidden=True)(use)


@config_app.command()
def current() -> None:
    """Print the name of the current context.

    Example: computility config current
    """
    name = read_contexts().current
    if not name:
        raise InvalidInput("no context is current; `computility config use NAME` makes one so")
    typer.echo(name)


config_app.command("current-context", hidden=True)(current)


@config_app.command()
def delete(name: ContextArgument) -> None:
    """Forget a context; what it names is left as it is.

    Example: computility config delete prod
    """
    write_contexts(read_contexts().without(name))
    console().print(f"context/{name} deleted", markup=False)
