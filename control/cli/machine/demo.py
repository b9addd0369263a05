"""demo: the whole story on this machine, torn down afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from control.cli.asking.options import session_of
from control.cli.machine.lifecycle import ControlPort, GatewayPort, ModelOption, stop_signals
from control.console.output import console
from control.demo.play import DemoOptions, play
from control.demo.story import check_source


def demo(
    context: typer.Context,
    model: ModelOption = "",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder with all state and logs.")] = False,
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder for the demo's state. Default: a temporary one.")
    ] = None,
    gateway_port: GatewayPort = None,
    control_port: ControlPort = None,
) -> None:
    """Play the whole story: build, serve, chat, fine-tune, chat again, bill.

    It is torn down afterwards. It uses a folder of its own and free ports, so it disturbs no running
    Computility. Example: computility demo --keep
    """
    check_source(model)
    settings = session_of(context).settings
    with stop_signals() as stop:
        held = play(console(), DemoOptions(settings, model, keep, home, gateway_port, control_port), stop)
    raise typer.Exit(0 if held else 1)
