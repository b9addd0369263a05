"""completion: what makes a shell complete commands, kinds, names and projects."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script

from control.cli.commands import COMPLETE_VARIABLE

PROGRAM = "computility"


class Shell(StrEnum):
    """Shells for which there is a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print what makes a shell complete commands, kinds and names.

    Examples: source <(computility completion bash);
    computility completion zsh > ~/.zfunc/_computility;
    computility completion fish > ~/.config/fish/completions/computility.fish
    """
    typer.echo(get_completion_script(prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, shell=shell.value))
