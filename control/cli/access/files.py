"""files: what fine-tuning learns from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.errors import InvalidInput
from common.private import at_home
from common.units import format_bytes
from control.cli.asking.options import OutputOption, ProjectOption, project_of, session_of
from control.console.formats import Output
from control.console.output import age, console, print_document, print_table

if TYPE_CHECKING:
    from common.client import Client

files_app = typer.Typer(
    help="Upload, list, get and delete files of a project.", no_args_is_help=True, add_completion=False
)
FileArgument = Annotated[str, typer.Argument(metavar="ID", help="The id, as `files list` shows it.")]


@files_app.command()
def upload(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A JSONL file.")],
    purpose: Annotated[str, typer.Option("--purpose", help="What it is for.")] = "fine-tune",
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Upload a file; its id is what jobs name.

    Example: computility files upload train.jsonl -p acme-agents
    """
    with session_of(context).client(timeout_seconds=600) as client:
        made = uploaded(client, at_home(path), purpose, project_of(context, project), param="PATH")
    if output in (Output.YAML, Output.JSON):
        print_document(made, output)
    else:
        console().print(made["id"], markup=False, soft_wrap=True)


def uploaded(client: Client, path: Path, purpose: str, project: str | None, *, param: str) -> dict[str, Any]:
    """The File that a file here becomes. Raises ``InvalidInput`` naming ``param`` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return client.upload_file(path.name, file, purpose, project)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}", param=param) from error


@files_app.command("list")
def list_(context: typer.Context, project: ProjectOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the files of a project, newest first.

    Example: computility files list -p acme-agents
    """
    with session_of(context).client() as client:
        found = client.list_files(project_of(context, project))
    if output in (Output.YAML, Output.JSON):
        print_document({"items": found}, output)
        return
    rows = [
        [
            one["id"],
            one["filename"],
            one["purpose"],
            format_bytes(one["bytes"]),
            age(one["created_at"] * 1000),
        ]
        for one in found
    ]
    print_table(["ID", "FILENAME", "PURPOSE", "SIZE", "AGE"], rows)


@files_app.command()
def get(
    context: typer.Context,
    file: FileArgument,
    to: Annotated[Path | None, typer.Option("--to", help="Write it there; unset = standard output.")] = None,
    project: ProjectOption = None,
) -> None:
    """Print what a file holds, or write it to another.

    Example: computility files get file-01m8gj9b3a7m --to copy.jsonl
    """
    with session_of(context).client() as client:
        pieces = client.file_content(file, project_of(context, project))
        if to is None:
            for piece in pieces:
                typer.echo(piece, nl=False)
            return
        try:
            with at_home(to).open("xb") as out:
                for piece in pieces:
                    out.write(piece)
        except OSError as error:
            raise InvalidInput(f"cannot write {to}: {error.strerror}", param="--to") from error


@files_app.command()
def delete(context: typer.Context, file: FileArgument, project: ProjectOption = None) -> None:
    """Delete a file that no job is to read any more.

    Example: computility files delete file-01m8gj9b3a7m
    """
    with session_of(context).client() as client:
        client.delete_file(file, project_of(context, project))
    console().print(f"file/{file} [red]deleted[/red]")
