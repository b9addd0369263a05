"""shell: a terminal of one's own on the pool."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.client_sessions import JobSession
from common.environment import variables
from common.errors import InvalidInput
from common.private import at_home
from control.cli.asking.finding import find
from control.cli.asking.kinds import kind_named
from control.cli.asking.options import ProjectOption, project_of, session_of
from control.cli.work.following import CANCELLED_CODE, ENDED, cancel, exit_code_of
from control.cli.work.run import asked_to_cancel, devices_of, seconds_of, start, variable
from control.cli.work.screen import Screen, raw_terminal, read_here, show_here
from control.console.output import to_stderr

if TYPE_CHECKING:
    from common.client import Client

SHELL = "bash"
LOOK_AGAIN_SECONDS = 1.0
LEFT_CODE = 0
TTL_SECONDS = 86_400


def shell(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND]", help=f"Unset = {SHELL}.")
    ] = None,
    attach: Annotated[
        str, typer.Option("--attach", help="A job that has a terminal, in place of a new one.")
    ] = "",
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, help="Accelerators.")] = None,
    cpu: Annotated[int | None, typer.Option("--cpu", min=1, help="Cores, instead.")] = None,
    name: Annotated[str, typer.Option("--name", help="Unset = the folder's, and a few letters.")] = "",
    queue: Annotated[str, typer.Option("--queue")] = "default",
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE, or NAME alone for its value here.")
    ] = None,
    idle: Annotated[str, typer.Option("--idle", help="It ends after so long without input.")] = "1h",
    deadline: Annotated[str, typer.Option("--deadline", help="Such as 90s, 30m or 8h.")] = "",
    ports: Annotated[bool, typer.Option("--ports", help="For `computility port-forward`.")] = False,
    network: Annotated[
        bool, typer.Option("--network", help="With the node's network, where the platform permits it.")
    ] = False,
    folder: Annotated[Path, typer.Option("--folder", help="What it begins with.")] = Path("."),
    no_folder: Annotated[bool, typer.Option("--no-folder", help="It begins with nothing.")] = False,
    project: ProjectOption = None,
) -> None:
    """Open a terminal on the pool, in a job of its own with the folder.

    The folder is the one that you are in. The job waits for its devices like any other, is billed like one,
    and ends with its command, or after an hour without input. The exit code is the command's. Ctrl-] leaves
    it running.

    Examples: computility shell --gpus 1; computility shell --attach mine-k3f9q
    """
    with session_of(context).client(timeout_seconds=600) as client:
        if attach:
            job = find(client, kind_named("Job"), attach, project_of(context, project))
            if not (job["spec"].get("session") or {}).get("terminal"):
                raise InvalidInput(f"job/{attach} has no terminal; `computility shell` makes one that has")
            raise typer.Exit(join(client, attach, job["metadata"]["project"]))
        terminal = {"TERM": variables().get("TERM", "xterm")}
        spec: dict[str, Any] = {
            "command": command or [SHELL],
            "env": {**terminal, **dict(variable(text) for text in env or ())},
            "devices": devices_of(gpus, cpu),
            "queue": queue,
            "retries": 0,
            "network": network,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "session": {"terminal": True, "ports": ports, "idleSeconds": seconds_of(idle, "--idle")},
        }
        if deadline:
            spec["deadlineSeconds"] = seconds_of(deadline)
        root = None if no_folder else at_home(folder)
        called, where = start(client, spec, name, root, project_of(context, project))
        raise typer.Exit(join(client, called, where))


def join(client: Client, name: str, project: str) -> int:
    """The job's exit code when it has ended; 0 where who sits here has left it. One that is moved to another
    node is joined again there."""
    after = 0
    while True:
        try:
            attempt = _running(client, name, project, after)
            if attempt is None:
                return exit_code_of(_told(client.get("jobs", name, project)))
            after = attempt
            to_stderr(f"job/{name} runs; Ctrl-] leaves it running")
            with raw_terminal() as size:
                session = JobSession(client, name, project, attempt)
                stayed = Screen(session, read=read_here, show=show_here, size=size).join()
        except KeyboardInterrupt:
            if asked_to_cancel(name):
                cancel(client, name, project)
                return CANCELLED_CODE
            return _left(name)
        if not stayed:
            return _left(name)


def _left(name: str) -> int:
    to_stderr(f"\njob/{name} goes on; `computility shell --attach {name}` joins it")
    return LEFT_CODE


def _running(client: Client, name: str, project: str, after: int) -> int | None:
    """The next attempt, as soon as it runs; None where the job has ended, and what it left is kept."""
    said = ""
    while True:
        status = client.get("jobs", name, project).get("status") or {}
        phase, message = str(status.get("phase", "Pending")), status.get("message", "")
        if phase in ENDED:
            return None
        if phase == "Running" and status.get("attempts", 0) > after:
            return int(status["attempts"])
        text = f"job/{name} {phase}{f': {message}' if message else ''}"
        if text != said and phase != "Running":
            to_stderr(text)
        said = text
        time.sleep(LOOK_AGAIN_SECONDS)


def _told(job: dict[str, Any]) -> dict[str, Any]:
    """The job; why it ended so is said."""
    name, status = job["metadata"]["name"], job.get("status") or {}
    if status.get("phase") != "Succeeded" and status.get("message"):
        to_stderr(f"job/{name} {status['phase']}: {status['message']}")
    return job
