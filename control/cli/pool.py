"""top, simulate: the pool now, and what would happen in it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.live import Live

from common.errors import ComputilityError, InvalidInput
from common.kind_names import KIND_NAMES
from control.cli.asking.options import FilesOption, JsonOption, OutputOption, session_of
from control.console.documents.manifests import blame, read_manifests
from control.console.formats import Output
from control.console.output import console, print_document
from control.console.tables.pool_tables import PoolView
from control.console.terminal import json_text
from control.console.told.explanations import print_simulation

if TYPE_CHECKING:
    from common.client import Client


def top(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C; on a terminal that is the default.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Show it once.")] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.5, help="Seconds between two looks.")] = 2.0,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many nodes and workloads.")
    ] = 10,
    output: OutputOption = Output.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Show what is used of the pool, by whom, and what is left over.

    Nodes with the most stranded devices come first: free, but of no use for what usually comes. Blocks of
    LOAD of devices, and LAST HOUR of nodes, are five minutes each. An end after ~ is expected by past runs.

    Examples: computility top; computility top --once -n 50; computility top --json | jq .pool
    """
    if watch and once:
        raise InvalidInput("--watch and --once: choose one of them", param="--once")
    with session_of(context).client() as client:
        if as_json or output is Output.JSON:
            _tell(client, limit, interval, watch)
        elif output is Output.YAML:
            print_document(client.overview(limit), output)
        elif watch or (console().is_terminal and not once):
            _follow(client, limit, interval)
        else:
            console().print(_look(PoolView(), client, limit))


def _tell(client: Client, limit: int, interval_seconds: float, watch: bool) -> None:
    """One document, or one line for each look."""
    if not watch:
        print_document(client.overview(limit), Output.JSON)
        return
    try:
        while True:
            typer.echo(json_text(client.overview(limit)))
            time.sleep(interval_seconds)
    except KeyboardInterrupt:
        return


def _look(view: PoolView, client: Client, limit: int) -> RenderableType:
    overview = client.overview(limit)
    view.history.recall(client, overview)
    return view.draw(overview)


def _follow(client: Client, limit: int, interval_seconds: float) -> None:
    view, out = PoolView(), console()
    try:
        with Live(_look(view, client, limit), console=out, screen=out.is_terminal) as live:
            while True:
                time.sleep(interval_seconds)
                live.update(_look(view, client, limit), refresh=True)
    except KeyboardInterrupt:
        return


def simulate(
    context: typer.Context,
    filename: FilesOption,
    at_head: Annotated[
        bool, typer.Option("--at-head", help="As if they came first of all of their priority.")
    ] = False,
    output: OutputOption = Output.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Say whether Workloads or Jobs would start now and where, or why not.

    Nothing is written. The scheduler decides about a copy of the pool as it is. It also says whom they
    would stop, shrink or move, and who would start later because of them.

    Examples: computility simulate -f job.yaml; computility simulate -f train.yaml --at-head --json
    """
    manifests = read_manifests(filename)
    for manifest in manifests:
        manifest.require_json()
        kind = manifest.content.get("kind")
        if kind in {one.kind for one in KIND_NAMES} - {"Workload", "Job"}:
            plan = "; `computility plan -f FILE` says what would serve it" if kind == "Endpoint" else ""
            message = f"only Workloads and Jobs can be simulated, not {kind}{plan}"
            raise InvalidInput(f"{manifest.where('kind')}: kind: {message}", param="kind")
    with session_of(context).client() as client:
        try:
            answer = client.simulate([manifest.content for manifest in manifests], at_head=at_head)
        except ComputilityError as error:
            raise blame(manifests, error) from error
    if as_json or output in (Output.YAML, Output.JSON):
        print_document(answer, Output.YAML if output is Output.YAML else Output.JSON)
    else:
        print_simulation(console(), answer)
