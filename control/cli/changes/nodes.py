"""cordon, uncordon, drain: keep work off a node, and see it leave."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.clock import SYSTEM_CLOCK, Clock
from common.errors import Unavailable
from control.cli.asking.kinds import kind_named
from control.cli.asking.options import DryRunOption, session_of
from control.cli.asking.suggestions import nodes_from
from control.cli.changes.waiting import LOOK_AGAIN_SECONDS, TimeoutOption
from control.cli.changes.writing import change
from control.console.display import Stage
from control.console.output import console
from control.console.told.moments import parse_span

if TYPE_CHECKING:
    from common.client import Client

NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="Name of the node.", autocompletion=nodes_from)
]
_ENDED = ("Succeeded", "Failed", "Pending", "Suspended")


def cordon(context: typer.Context, node: NodeArgument, dry_run: DryRunOption = False) -> None:
    """Place nothing new on a node; what runs there stays.

    Example: computility cordon vm
    """
    _set(context, node, {"cordoned": True}, dry_run)


def uncordon(context: typer.Context, node: NodeArgument, dry_run: DryRunOption = False) -> None:
    """Let a node be used again, after cordon or drain.

    Example: computility uncordon vm
    """
    _set(context, node, {"cordoned": False, "drain": False}, dry_run)


def drain(
    context: typer.Context,
    node: NodeArgument,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until nothing runs there.")] = True,
    timeout: TimeoutOption = "30m",
    dry_run: DryRunOption = False,
) -> None:
    """Cordon a node, have its work moved, and wait until it is empty.

    The node stays cordoned until `uncordon`. Example: computility drain vm --timeout 10m
    """
    seconds = parse_span(timeout, "--timeout")
    _set(context, node, {"cordoned": True, "drain": True}, dry_run)
    if wait and not dry_run:
        with session_of(context).client() as client:
            until_empty(client, node, seconds)


def _set(context: typer.Context, node: str, values: dict[str, bool], dry_run: bool) -> None:
    def make(document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "spec": {**(document.get("spec") or {}), **values}}

    with session_of(context).client() as client:
        change(client, kind_named("node"), node, None, make, dry_run=dry_run)


def until_empty(
    client: Client,
    node: str,
    timeout_seconds: float,
    *,
    clock: Clock = SYSTEM_CLOCK,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Tell what is left on the node until it is nothing. Raises ``Unavailable`` naming what stays."""
    deadline = clock.monotonic_seconds() + timeout_seconds
    with Stage(console(), f"node/{node}") as stage:
        while True:
            left = workloads_on(node, client.list("workloads"))
            if not left:
                stage.summary = "nothing runs there"
                return
            said = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
            stage.tell(f"{len(left)} left: {said}")
            if clock.monotonic_seconds() >= deadline:
                raise Unavailable(
                    f"still on {node} ({len(left)}): {said}; `computility explain NAME` says why"
                )
            sleep(LOOK_AGAIN_SECONDS)


def workloads_on(node: str, workloads: list[dict[str, Any]]) -> list[str]:
    """``project/name`` of each that has a process there."""
    return [
        f"{one['metadata'].get('project')}/{one['metadata']['name']}"
        for one in workloads
        if (one.get("status") or {}).get("phase", "Pending") not in _ENDED
        and any(rank.get("node") == node for rank in one["status"].get("ranks", ()))
    ]
