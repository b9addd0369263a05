"""run: a command of one's own on the pool."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.environment import variables
from common.errors import Conflict, InvalidInput
from common.ids import new_id
from common.private import at_home
from control.cli.asking.options import ProjectOption, project_of, session_of
from control.cli.work.folder import send, stem_of
from control.cli.work.following import Following, bring, cancel, check_target, exit_code_of
from control.console.output import console, to_stderr
from control.console.terminal import log_line

if TYPE_CHECKING:
    from common.client import Client

TTL_SECONDS = 14 * 86_400
_DURATION = re.compile(r"(\d{1,9})(s|m|h|d|)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def run(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="The command and its words.")],
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, help="Accelerators of each replica.")] = None,
    cpu: Annotated[int | None, typer.Option("--cpu", min=1, help="Cores of each replica, instead.")] = None,
    replicas: Annotated[
        int, typer.Option("--replicas", "--nodes", min=1, help="Ranks, which start together.")
    ] = 1,
    name: Annotated[str, typer.Option("--name", help="Unset = the folder's, and a few letters.")] = "",
    queue: Annotated[str, typer.Option("--queue")] = "default",
    priority: Annotated[int | None, typer.Option("--priority", help="Up to the project's ceiling.")] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE, or NAME alone for its value here.")
    ] = None,
    retries: Annotated[int, typer.Option("--retries", min=0, max=100, help="Starts after a failure.")] = 6,
    deadline: Annotated[str, typer.Option("--deadline", help="Such as 90s, 30m or 8h.")] = "",
    network: Annotated[
        bool, typer.Option("--network", help="With the node's network, where the platform permits it.")
    ] = False,
    folder: Annotated[Path, typer.Option("--folder", help="What the job begins with.")] = Path("."),
    no_folder: Annotated[bool, typer.Option("--no-folder", help="It begins with nothing.")] = False,
    artefact: Annotated[
        list[str] | None, typer.Option("--artefact", help="Path to keep at the end; unset = output.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-O", help="New folder here for what it left.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Only start it.")] = False,
    ports: Annotated[
        bool, typer.Option("--ports", help="For `port-forward`; it ends after an hour without use.")
    ] = False,
    project: ProjectOption = None,
) -> None:
    """Run a command on the pool with the folder that you are in.

    What it prints is shown; the exit code is the command's (124: deadline, 130: cancelled). What it writes
    below output/ is kept. Ctrl-C asks whether the job is to be cancelled, or goes on without you.

    Examples: computility run -- python train.py;
    computility run --gpus 2 --deadline 8h -O results -- python train.py
    """
    spec: dict[str, Any] = {
        "command": command,
        "env": dict(variable(text) for text in env or ()),
        "devices": devices_of(gpus, cpu),
        "replicas": replicas,
        "queue": queue,
        "retries": retries,
        "network": network,
        "ttlSecondsAfterFinished": TTL_SECONDS,
    }
    optional = {"priority": priority, "artefacts": artefact, "deadlineSeconds": seconds_of(deadline)}
    spec |= {field: value for field, value in optional.items() if value is not None}
    if ports:
        spec["session"] = {"ports": True}
    if output is not None:
        check_target(at_home(output))
    root = None if no_folder else at_home(folder)
    with session_of(context).client(timeout_seconds=600) as client:
        called, where = start(
            client, spec, name or name_of(at_home(folder)), root, project_of(context, project)
        )
        if detach:
            console().print(f"job/{called} created", markup=False)
            return
        raise typer.Exit(follow(client, called, where, at_home(output) if output else None))


def start(
    client: Client, spec: dict[str, Any], name: str, root: Path | None, project: str | None
) -> tuple[str, str]:
    """Make the job, with the folder ``root``; returns its name and project. ``spec`` gets the folder."""
    where = project or _own_project(client)
    called = name or name_of(root or Path.cwd())
    document = {
        "apiVersion": "computility.io/v1alpha1",
        "kind": "Job",
        "metadata": {"name": called, "project": where},
        "spec": spec,
    }
    _create(client, document, dry_run=True)  # refused before anything is sent
    if root is not None:
        spec["folder"] = send(client, root, where, to_stderr)
    _create(client, document)
    return called, where


def _create(client: Client, document: dict[str, Any], *, dry_run: bool = False) -> None:
    """Raises ``Conflict`` where the job is there: it would not run again."""
    if client.apply(document, dry_run=dry_run)["outcome"] != "created":
        name = document["metadata"]["name"]
        raise Conflict(
            f"there is a job {name} already; choose another name, or `computility delete job {name}` first"
        )


def follow(client: Client, name: str, project: str, output: Path | None, rank: int = 0) -> int:
    """The exit code of the job, when it has ended and what it left is here; 130 where nobody waits for it any
    more."""
    following = Following(
        client, name, project, rank=rank, say=to_stderr, show=lambda line: typer.echo(log_line(line))
    )
    job = None
    while job is None:
        try:
            job = following.until_end()
        except KeyboardInterrupt:
            if not asked_to_cancel(name):
                to_stderr(f"job/{name} goes on; `computility jobs attach {name}` shows it again")
                return 130
            to_stderr(f"job/{name} is being cancelled")
            cancel(client, name, project)
    if output is not None:
        left = bring(client, job, output)
        to_stderr(f"what it left is in {output}" if left else "it left nothing")
    return exit_code_of(job)


def asked_to_cancel(name: str) -> bool:
    """Where nobody can be asked, whoever interrupts wants it to end."""
    if not sys.stdin.isatty():
        return True
    try:
        return typer.confirm(f"\nCancel job/{name}? Else it goes on.", default=False, err=True)
    except (typer.Abort, KeyboardInterrupt):
        return False


def devices_of(gpus: int | None, cpu: int | None) -> dict[str, Any]:
    """The request for devices of each replica."""
    if gpus is not None and cpu is not None:
        raise InvalidInput("--gpus and --cpu: choose one of them", param="--gpus")
    if gpus is not None:
        return {"count": gpus, "notVendors": ["cpu"]}
    return {"count": cpu, "vendors": ["cpu"]} if cpu is not None else {"count": 1}


def seconds_of(text: str, option: str = "--deadline") -> int | None:
    """``30m`` as seconds; None where nothing is said."""
    if not text:
        return None
    match = _DURATION.fullmatch(text)
    if match is None or not int(match[1]):
        raise InvalidInput(f"{option}: {text!r} is no time; write such as 90s, 30m or 8h", param=option)
    return int(match[1]) * _UNITS[match[2]]


def name_of(folder: Path) -> str:
    """A name that no other job has, after the folder."""
    return f"{stem_of(folder)}-{new_id('job')[-5:]}"


def variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    here = variables()
    if name not in here:
        raise InvalidInput(f"--env {name}: is not set here; write {name}=VALUE", param="--env")
    return name, here[name]


def _own_project(client: Client) -> str:
    """The project of the key. Raises ``InvalidInput`` where it is for several."""
    project = client.whoami().get("project")
    if not project:
        raise InvalidInput("the key is not bound to a project; choose one with -p", param="-p")
    return str(project)
