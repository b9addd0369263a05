"""jobs: what was started with run, or applied as a Job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from common.errors import InvalidInput, NotFound
from common.private import at_home
from control.cli.access.finetunes import create
from control.cli.asking.finding import find
from control.cli.asking.kinds import kind_named
from control.cli.asking.options import ProjectOption, project_of, session_of
from control.cli.get import get
from control.cli.work import following
from control.cli.work.run import follow
from control.console.output import console

jobs_app = typer.Typer(
    help="List, follow, cancel and fetch jobs; `run` makes them.",
    no_args_is_help=True,
    add_completion=False,
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The job's name, as `get jobs` shows it.")]
OutputFolder = Annotated[
    Path | None, typer.Option("--output", "-O", help="New folder here for what it left.")
]


@jobs_app.command("list")
def list_jobs(
    context: typer.Context,
    project: ProjectOption = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="table, wide, name, yaml, json or jsonpath=TEMPLATE.")
    ] = "table",
) -> None:
    """List jobs, as `get jobs` does.

    Example: computility jobs list -p search
    """
    get(context, "jobs", project=project, output=output)


@jobs_app.command()
def attach(
    context: typer.Context,
    name: NameArgument,
    rank: Annotated[int, typer.Option("--rank", min=0, help="Whose output is shown.")] = 0,
    output: OutputFolder = None,
    project: ProjectOption = None,
) -> None:
    """Show what a job prints until it has ended; the exit code is the job's.

    Example: computility jobs attach train-k3f9q
    """
    target = at_home(output) if output is not None else None
    if target is not None:
        following.check_target(target)
    with session_of(context).client(timeout_seconds=600) as client:
        job = find(client, kind_named("Job"), name, project_of(context, project))
        if rank >= job["spec"].get("replicas", 1):
            raise InvalidInput(f"job/{name} has no rank {rank}; they count from 0", param="--rank")
        raise typer.Exit(follow(client, name, job["metadata"]["project"], target, rank))


@jobs_app.command()
def cancel(context: typer.Context, name: NameArgument, project: ProjectOption = None) -> None:
    """End a job; what it left is kept, and so are its logs.

    Example: computility jobs cancel train-k3f9q
    """
    with session_of(context).client() as client:
        job = find(client, kind_named("Job"), name, project_of(context, project))
        phase = following.cancel(client, name, job["metadata"]["project"])
    ended = phase in following.ENDED
    console().print(
        f"job/{name} has ended: {phase}" if ended else f"job/{name} is being cancelled", markup=False
    )


@jobs_app.command()
def artefacts(
    context: typer.Context,
    name: NameArgument,
    output: Annotated[Path, typer.Option("--output", "-O", help="New folder here for what it left.")],
    project: ProjectOption = None,
) -> None:
    """Fetch what a job left.

    Example: computility jobs artefacts train-k3f9q -O results
    """
    with session_of(context).client(timeout_seconds=600) as client:
        job = find(client, kind_named("Job"), name, project_of(context, project))
        if not following.bring(client, job, at_home(output)):
            raise NotFound(_nothing(job))
    console().print(f"what it left is in {output}", markup=False, soft_wrap=True)


def _nothing(job: dict[str, Any]) -> str:
    """Why there are no artefacts."""
    name, status = job["metadata"]["name"], job.get("status") or {}
    if status.get("phase") not in following.ENDED:
        return (
            f"job/{name} has not ended: what it leaves is kept then; `computility jobs attach {name}` waits"
        )
    paths, message = ", ".join(job["spec"].get("artefacts") or ()), status.get("message", "")
    left = f"has left nothing in {paths}" if paths else "keeps no artefacts"
    return f"job/{name} {left}{f' ({message})' if message else ''}"


jobs_app.command("create", hidden=True)(create)
