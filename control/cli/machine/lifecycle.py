"""up and down: start everything on this machine, stop everything."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.durable import write_private
from common.errors import ComputilityError, Conflict, EngineFailed, SetupError
from common.private import PRIVATE_UMASK
from common.settings import Settings
from common.tls import control_client
from control.cli.asking.options import session_of
from control.cli.asking.session import CREDENTIALS_FILE, Session
from control.console.display import Stage
from control.console.documents.outcomes import apply_manifests
from control.console.output import console
from control.demo import story
from control.supervisor.instance import ChildState, RunFolder
from control.supervisor.supervisor import Instance, clean_up

GatewayPort = Annotated[
    int | None,
    typer.Option("--gateway-port", min=1, max=65535, help="Port for OpenAI clients. Default: 8000"),
]
ControlPort = Annotated[
    int | None,
    typer.Option("--control-port", min=1, max=65535, help="Port of the control API. Default: 8001"),
]
HomeOption = Annotated[Path | None, typer.Option("--home", help="Folder of all state (COMPUTILITY_HOME).")]
ModelOption = Annotated[str, typer.Option("--model", help="Serve this model: a folder or a hub name.")]
APPLIED_FILE = "examples-applied"
DOWN_TIMEOUT_SECONDS = 120.0


def up(
    context: typer.Context,
    gateway_port: GatewayPort = None,
    control_port: ControlPort = None,
    home: HomeOption = None,
    model: ModelOption = "",
    no_examples: Annotated[
        bool, typer.Option("--no-examples", help="Start with nothing in it: no tenant, no model.")
    ] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a new admin key; the old one ends.")
    ] = False,
) -> None:
    """Start Ray, control and gateway on this machine; Ctrl-C stops all of it.

    The first start builds a small model and serves it as described in examples/. State stays in --home.

    Examples: computility up; computility up --gateway-port 9000 --home ~/other
    """
    os.umask(PRIVATE_UMASK)
    story.check_source(model)
    session = Session.load(home) if home else session_of(context)
    settings = with_ports(session.settings, gateway_port, control_port)
    out = console()
    instance = Instance(settings)
    with stop_signals() as stop:
        try:
            _start(out, instance, stop)
            if not stop.is_set():
                key = _credentials(out, instance.settings, new_key)
                _announce(out, instance.settings, key)
                if not no_examples:
                    _play_examples(out, Session.load(settings.home), model, stop)
            while not stop.wait(0.5):
                _tell_of_children(out, instance)
                if instance.failure:
                    raise instance.failure
        finally:
            _stop(out, instance)


def with_ports(settings: Settings, gateway_port: int | None, control_port: int | None) -> Settings:
    """The settings with these ports instead."""
    update = {}
    if gateway_port:
        update["gateway"] = settings.gateway.model_copy(update={"port": gateway_port})
    if control_port:
        update["control"] = settings.control.model_copy(update={"port": control_port})  # type: ignore[assignment]
    return settings.model_copy(update=update)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and SIGHUP set, once; a second Ctrl-C while stopping changes nothing."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(out: Console, instance: Instance, stop: threading.Event) -> None:
    cleaned = instance.clean_up()
    if cleaned:
        out.print(f"stopped {cleaned} processes that an earlier `up` left", style="yellow")
    instance.check_ports()
    instance.start()
    with Stage(out, "starting Ray, control and gateway") as stage:
        instance.wait_ready(stop, lambda states: stage.tell(_states_text(states)))


def _tell_of_children(out: Console, instance: Instance) -> None:
    """Say which processes have ended by themselves and are there again."""
    for text in instance.supervisor.take_told():
        back = " is ready again " in text
        out.print(text, style="green" if back else "yellow", markup=False, soft_wrap=True)


def _states_text(states: tuple[ChildState, ...]) -> str:
    return ", ".join(f"{child.name} {child.state}" for child in states)


def _credentials(out: Console, settings: Settings, new_key: bool) -> str:
    """Keep URLs and key for the command line; returns the key when it is a new one, to be shown once."""
    path = settings.home / CREDENTIALS_FILE
    kept = Session(settings).credentials.key if path.exists() else ""
    with control_client(settings) as client:
        try:
            secret = str(client.bootstrap(settings.internal_token, rotate=new_key)["secret"])
        except Conflict:
            secret = ""
    if not secret and not kept:
        out.print(
            f"an admin key was made before, but {path} does not hold it any more; "
            "make another with `computility up --new-key`",
            style="yellow",
        )
    content = {
        "control_url": settings.control_url,
        "gateway_url": settings.gateway_url,
        "api_key": secret or kept,
    }
    for name, server in (("control", settings.control), ("gateway", settings.gateway)):
        if server.tls_certificate_file:
            content[f"{name}_certificate_file"] = str(Path(server.tls_certificate_file).absolute())
    write_private(path, json.dumps(content, indent=2) + "\n")
    return secret


def _announce(out: Console, settings: Settings, key: str) -> None:
    out.print(f"[bold]base URL[/bold]   {settings.gateway_url}   (for OpenAI clients)")
    out.print(f"[bold]control[/bold]    {settings.control_url}")
    path = settings.home / CREDENTIALS_FILE
    if key:
        out.print(f"[bold]admin key[/bold]  {key}", soft_wrap=True)
        out.print(
            f"           shown this once; the command line finds it in {path}", style="dim", soft_wrap=True
        )
    else:
        out.print(
            f"[bold]admin key[/bold]  was shown before; the command line has it in {path}", soft_wrap=True
        )


def _play_examples(out: Console, session: Session, model: str, stop: threading.Event) -> None:
    """Apply `examples/` the first time (or with another model), and wait until its endpoint answers."""
    applied = session.settings.folder("run") / APPLIED_FILE
    manifests = story.example_manifests(model)
    first = bool(model) or not applied.exists()
    if story.needs_tiny_model(manifests) and (
        first or not story.tiny_model_folder(session.settings).exists()
    ):
        with Stage(out, "building the small base model (up to a minute, once)") as stage:
            for warning in story.build_tiny_model(session.settings):
                stage.say(warning)
    if first:
        with session.client() as client:
            apply_manifests(client, manifests, out)
        applied.write_text("")
    project, name = story.the_endpoint(manifests)
    with session.client() as client, Stage(out, f"endpoint {name}") as stage:
        if name not in {item["metadata"]["name"] for item in client.list("endpoints", project)}:
            stage.summary = "deleted; nothing to wait for"
            return
        try:
            stage.summary = (
                "ready" if story.wait_ready(client, project, name, stage.tell, stop) else "interrupted"
            )
        except EngineFailed as error:  # the platform goes on: what is wrong can be mended while it runs
            stage.summary = f"does not come up: {error.message}"
    if not stop.is_set():
        out.print(f"try: computility get endpoints   computility chat {name} 'Hello'", style="dim")


def _stop(out: Console, instance: Instance) -> None:
    with Stage(out, "stopping") as stage:
        left = instance.stop(stage.tell)
    if left:
        pids = ", ".join(str(pid) for pid in sorted(left))
        raise SetupError(f"these processes of the instance do not end: {pids}; stop them by hand (kill -9 …)")


def down(context: typer.Context, home: HomeOption = None) -> None:
    """Stop a running `up`, or whatever a killed one left.

    Afterwards no process of the instance is there. Example: computility down
    """
    session = Session.load(home) if home else session_of(context)
    settings, out = session.settings, console()
    if not (settings.home / "run" / "instance").exists():
        out.print(f"nothing runs in {settings.home}: no `computility up` was ever started there")
        return
    run = RunFolder(settings)
    holder = run.lock_holder()
    if holder:
        with Stage(out, f"stopping `up` (pid {holder})"):
            _end(run, holder)
    with run.lock():
        count = clean_up(run, settings)
    out.print(f"stopped {count} processes that were left" if count else "nothing is left running")


def _end(run: RunFolder, pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise ComputilityError(f"`up` (pid {pid}) belongs to another user; stop it as that user") from error
    deadline = time.monotonic() + DOWN_TIMEOUT_SECONDS
    while run.lock_holder() == pid:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.2)
