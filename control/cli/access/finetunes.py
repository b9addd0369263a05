"""finetunes: fine-tuning from the command line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from common.errors import ComputilityError, InvalidInput
from common.private import at_home
from control.cli.access.files import uploaded
from control.cli.asking.finding import find
from control.cli.asking.kinds import kind_named
from control.cli.asking.options import OutputOption, ProjectOption, project_of, session_of
from control.cli.asking.suggestions import endpoints_from
from control.cli.changes.waiting import TimeoutOption, judge_for, until
from control.console.formats import Output
from control.console.output import age, console, print_document, print_table
from control.console.told.moments import parse_span

if TYPE_CHECKING:
    from common.client import Client

LOOK_AGAIN_SECONDS = 1.0
ENDED = ("succeeded", "failed", "cancelled")
finetunes_app = typer.Typer(
    help="Make, list, watch, try and cancel fine-tuning jobs.", no_args_is_help=True, add_completion=False
)
JobArgument = Annotated[str, typer.Argument(metavar="ID", help="The id, as `finetunes list` shows it.")]


@finetunes_app.command()
def create(
    context: typer.Context,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model to tune.", autocompletion=endpoints_from)
    ],
    file: Annotated[str, typer.Option("--file", "-f", help="Id of a file, or a file here to upload.")],
    validation: Annotated[str, typer.Option("--validation", help="The same, to measure by.")] = "",
    suffix: Annotated[str, typer.Option("--suffix", help="Stands in the name of the result.")] = "",
    epochs: Annotated[int | None, typer.Option("--epochs", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate-multiplier", min=0.0)] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0)] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until it has ended.")] = False,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Tune a model with examples; the result is served at once.

    Example: computility finetunes create -m tiny -f train.jsonl --suffix harbour --epochs 3 --watch
    """
    chosen = {"n_epochs": epochs, "batch_size": batch_size, "learning_rate_multiplier": learning_rate}
    hyper = {name: value for name, value in chosen.items() if value is not None}
    where = project_of(context, project)
    with session_of(context).client(timeout_seconds=600) as client:
        body: dict[str, Any] = {"model": model, "training_file": _file(client, file, where)}
        if validation:
            body["validation_file"] = _file(client, validation, where)
        optional = {"suffix": suffix or None, "seed": seed}
        body |= {name: value for name, value in optional.items() if value is not None}
        if hyper:
            body["method"] = {"type": "supervised", "supervised": {"hyperparameters": hyper}}
        made = client.create_job(body, where)
        if output in (Output.YAML, Output.JSON):
            print_document(made, output)
        else:
            console().print(made["id"], markup=False, soft_wrap=True)
        if watch:
            follow(client, made["id"], where)


def _file(client: Client, named: str, project: str | None) -> str:
    """The id itself, or that of the file here, uploaded."""
    path = at_home(named)
    if not path.is_file():
        if named.startswith("file-"):
            return named
        raise InvalidInput(f"{named} is neither a file here nor an id of one (file-…)", param="--file")
    return str(uploaded(client, path, "fine-tune", project, param="--file")["id"])


@finetunes_app.command("list")
def list_(context: typer.Context, project: ProjectOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the jobs of a project, newest first.

    Example: computility finetunes list -p acme-agents
    """
    with session_of(context).client() as client:
        found = client.list_jobs(project_of(context, project))
    if output in (Output.YAML, Output.JSON):
        print_document({"items": found}, output)
        return
    rows = [
        [one["id"], one["status"], one["model"], one.get("fine_tuned_model"), age(one["created_at"] * 1000)]
        for one in found
    ]
    print_table(["ID", "STATE", "MODEL", "FINE-TUNED MODEL", "AGE"], rows)


@finetunes_app.command()
def watch(context: typer.Context, job: JobArgument, project: ProjectOption = None) -> None:
    """Show how far a job is until it has ended; exit code 1 where it did not succeed.

    Example: computility finetunes watch ftjob-01m8gj9b3a7m
    """
    with session_of(context).client() as client:
        follow(client, job, project_of(context, project))


@finetunes_app.command()
def cancel(context: typer.Context, job: JobArgument, project: ProjectOption = None) -> None:
    """End a job; what it has learnt until now is kept as checkpoints.

    Example: computility finetunes cancel ftjob-01m8gj9b3a7m
    """
    with session_of(context).client() as client:
        state = client.cancel_job(job, project_of(context, project))["status"]
    console().print(f"job/{job} {state}", markup=False)


@finetunes_app.command("try")
def try_(
    context: typer.Context,
    job: JobArgument,
    step: Annotated[int, typer.Option("--step", min=0, help="The checkpoint of this step.")],
    timeout: TimeoutOption = "2m",
    project: ProjectOption = None,
) -> None:
    """Serve what a job had learnt after a step, beside its result, and wait until it answers.

    It counts as an adapter of the project; `computility delete adapter NAME` ends it.
    Example: computility finetunes try ftjob-01m8gj9b3a7m --step 15
    """
    seconds, where = parse_span(timeout, "--timeout"), project_of(context, project)
    with session_of(context).client(timeout_seconds=600) as client:
        served = client.serve_checkpoint(job, str(step), where)
        judge = judge_for("condition=Served")
        until(client, kind_named("Adapter"), served["adapter"], where, judge, seconds)
    console().print(served["fine_tuned_model_checkpoint"], markup=False, soft_wrap=True)


def follow(
    client: Client, job: str, project: str | None, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """A bar of steps on a terminal, a line for each change elsewhere. Raises ``ComputilityError`` where the
    job fails."""
    out, said = console(), ""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task(job, total=None)
        while True:
            document = find(client, kind_named("FineTune"), job, project)
            status = document.get("status") or {}
            state, step, total = (
                status.get("state", "queued"),
                status.get("step", 0),
                status.get("totalSteps", 0),
            )
            text = f"{state} {step}/{total}" if total else str(state)
            progress.update(task, description=text, completed=step, total=total or None)
            if text != said and not out.is_terminal:
                out.print(text, markup=False)
            said = text
            if state in ENDED:
                break
            sleep(LOOK_AGAIN_SECONDS)
    if state != "succeeded":
        raise ComputilityError(f"{job} {state}: {status.get('errorMessage') or 'see `computility events`'}")
    out.print(f"{job} succeeded: {status.get('fineTunedModel')}", markup=False, soft_wrap=True)
