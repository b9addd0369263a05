"""jobs: what was started with run, or applied as a Job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.errors import NotFound
from common.private import at_home
from control.cli.access.finetunes import create
from control.cli.asking.finding import find
from control.cli.asking.kinds import kind_named
from control.cli.asking.options import ProjectOption, project_of, session_of
from control.cli.work import following
from control.cli.work.run import follow
from control.console.output import console

jobs_app = typer.Typer(
    help="Follow, cancel and fetch jobs; `get jobs` lists them, `run` makes them.", no_args_is_help=True
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The job's name, as `get jobs` shows it.")]
OutputFolder = Annotated[
    Path | None, typer.Option("--output", "-O", help="New folder here for what it left.")
]


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
        where = find(client, kind_named("Job"), name, project_of(context, project))["metadata"]["project"]
        raise typer.Exit(follow(client, name, where, target, rank))


@jobs_app.command()
def cancel(context: typer.Context, name: NameArgument, project: ProjectOption = None) -> None:
    """End a job; what it left is kept, and so are its logs.

    Example: computility jobs cancel train-k3f9q
    """
    with session_of(context).client() as client:
        job = find(client, kind_named("Job"), name, project_of(context, project))
        following.cancel(client, name, job["metadata"]["project"])
    console().print(f"job/{name} is being cancelled", markup=False)


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
            raise NotFound(
                f"job/{name} has left nothing that was kept; `computility describe job {name}` says why"
            )
    console().print(f"what it left is in {output}", markup=False, soft_wrap=True)


jobs_app.command("create", hidden=True)(create)
