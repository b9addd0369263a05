"""batches: requests in a file, answered when there is room."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from common.errors import ComputilityError, InvalidInput, NotFound
from common.private import at_home
from control.cli.access.files import uploaded
from control.cli.asking.finding import find
from control.cli.asking.kinds import kind_named
from control.cli.asking.options import OutputOption, ProjectOption, project_of, session_of
from control.console.formats import Output
from control.console.output import age, console, print_document, print_table

if TYPE_CHECKING:
    from common.client import Client

LOOK_AGAIN_SECONDS = 1.0
ENDED = ("completed", "failed", "expired", "cancelled")
_FIRST_LINE_BYTES = 16 * 1024**2
batches_app = typer.Typer(
    help="Make, list, watch and cancel batches of requests, and get their answers.",
    no_args_is_help=True,
    add_completion=False,
)
BatchArgument = Annotated[str, typer.Argument(metavar="ID", help="The id, as `batches list` shows it.")]


@batches_app.command()
def create(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A JSONL file here to upload, or a file's id.")],
    endpoint: Annotated[
        str, typer.Option("--endpoint", "-e", help="Path that all lines ask for; unset = as the first one.")
    ] = "",
    window: Annotated[str, typer.Option("--window", help="What is not done by then never is.")] = "24h",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until it has ended.")] = False,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Have the requests of a file answered in idle capacity, at the price of batches.

    Example: computility batches create requests.jsonl --watch
    """
    where, path = project_of(context, project), at_home(file)
    if not path.is_file() and not file.startswith("file-"):
        raise InvalidInput(f"{file} is neither a file here nor an id of one (file-…)", param="FILE")
    asked = endpoint or (_endpoint_of(path) if path.is_file() else "")
    if not asked:
        raise InvalidInput(
            "--endpoint: name the path of the requests, like /v1/chat/completions", param="--endpoint"
        )
    with session_of(context).client(timeout_seconds=600) as client:
        id_ = uploaded(client, path, "batch", where, param="FILE")["id"] if path.is_file() else file
        body = {"input_file_id": id_, "endpoint": asked, "completion_window": window}
        made = client.create_batch(body, where)
        if output in (Output.YAML, Output.JSON):
            print_document(made, output)
        else:
            console().print(made["id"], markup=False, soft_wrap=True)
        if watch:
            follow(client, made["id"], where)


def _endpoint_of(path: Path) -> str:
    """What the first line asks for; empty where that cannot be told."""
    try:
        with path.open("rb") as stream:
            lines = iter(lambda: stream.readline(_FIRST_LINE_BYTES), b"")
            told = json.loads(next((line for line in lines if line.strip()), b"").decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return ""
    url = told.get("url") if isinstance(told, dict) else None
    return url if isinstance(url, str) else ""


@batches_app.command("list")
def list_(context: typer.Context, project: ProjectOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the batches of a project, newest first.

    Example: computility batches list -p acme-agents
    """
    with session_of(context).client() as client:
        found = client.list_batches(project_of(context, project))
    if output in (Output.YAML, Output.JSON):
        print_document({"items": found}, output)
        return
    rows = [
        [one["id"], one["status"], _done(one), one["endpoint"], one["model"], age(one["created_at"] * 1000)]
        for one in found
    ]
    print_table(["ID", "STATE", "DONE", "ENDPOINT", "MODEL", "AGE"], rows)


def _done(batch: dict[str, Any]) -> str:
    counts = batch["request_counts"]
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    return f"{counts['completed'] + counts['failed']}/{counts['total']}{failed}" if counts["total"] else ""


@batches_app.command()
def get(
    context: typer.Context,
    batch: BatchArgument,
    project: ProjectOption = None,
    output: OutputOption = Output.YAML,
) -> None:
    """Show a batch: how far it is, what is wrong with its file, where its answers are.

    Example: computility batches get batch-01m8gj9b3a7m
    """
    with session_of(context).client() as client:
        found = client.get_batch(batch, project_of(context, project))
    print_document(found, Output.JSON if output is Output.JSON else Output.YAML)


@batches_app.command()
def watch(context: typer.Context, batch: BatchArgument, project: ProjectOption = None) -> None:
    """Show how far a batch is until it has ended; exit code 1 where it was not completed.

    Example: computility batches watch batch-01m8gj9b3a7m
    """
    with session_of(context).client() as client:
        follow(client, batch, project_of(context, project))


@batches_app.command()
def cancel(context: typer.Context, batch: BatchArgument, project: ProjectOption = None) -> None:
    """End a batch; the answers that are there are kept, and billed.

    Example: computility batches cancel batch-01m8gj9b3a7m
    """
    with session_of(context).client() as client:
        state = client.cancel_batch(batch, project_of(context, project))["status"]
    console().print(f"batch/{batch} {state}", markup=False)


@batches_app.command()
def results(
    context: typer.Context,
    batch: BatchArgument,
    errors: Annotated[bool, typer.Option("--errors", help="What failed, in place of the answers.")] = False,
    target: Annotated[
        Path | None, typer.Option("--to", metavar="PATH", help="Write it here; unset = print it.")
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Get the answers of a batch that has ended, a line of JSON for each.

    Example: computility batches results batch-01m8gj9b3a7m --to answers.jsonl
    """
    where = project_of(context, project)
    with session_of(context).client(timeout_seconds=600) as client:
        found = client.get_batch(batch, where)
        file = found["error_file_id" if errors else "output_file_id"]
        if file is None:
            raise NotFound(_why_none(found, errors))
        _write(client.file_content(file, where), target)


def _why_none(batch: dict[str, Any], errors: bool) -> str:
    if batch["status"] not in ENDED:
        return (
            f"{batch['id']} is {batch['status']}; `computility batches watch {batch['id']}` waits for its end"
        )
    other = "" if errors else "; `--errors` has what failed"
    return f"{batch['id']} has {'nothing that failed' if errors else 'no answers'}{other}"


def _write(pieces: Iterable[bytes], target: Path | None) -> None:
    if target is None:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    path = at_home(target)
    try:
        with path.open("wb") as stream:
            for piece in pieces:
                stream.write(piece)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}", param="--to") from error


def follow(
    client: Client, batch: str, project: str | None, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """A bar of lines on a terminal, a line for each change elsewhere. Raises ``ComputilityError`` where the
    batch is not completed."""
    out, said = console(), ""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task(batch, total=None)
        while True:
            status = find(client, kind_named("Batch"), batch, project).get("status") or {}
            state, total = status.get("state", "validating"), status.get("total", 0)
            done = status.get("completed", 0) + status.get("failed", 0)
            text = f"{state} {done}/{total}" if total else str(state)
            progress.update(task, description=text, completed=done, total=total or None)
            if text != said and not out.is_terminal:
                out.print(text, markup=False)
            said = text
            if state in ENDED:
                break
            sleep(LOOK_AGAIN_SECONDS)
    if state != "completed":
        problems = [f"line {one.get('line')}: {one['message']}" for one in status.get("errors", ())[:3]]
        raise ComputilityError(f"{batch} {state}" + (f": {'; '.join(problems)}" if problems else ""))
    out.print(
        f"{batch} completed: {status.get('completed', 0)} answered, {status.get('failed', 0)} failed; "
        f"computility batches results {batch}",
        markup=False,
        soft_wrap=True,
    )
