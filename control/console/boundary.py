"""Errors as the command line shows them: what is wrong, what to do, and an exit code; no tracebacks."""

from __future__ import annotations

from common.errors import ComputilityError, mapping_of
from control.console.terminal import Terminal

HINTS = {
    "Unauthenticated": "give another key with --key or COMPUTILITY_API_KEY",
}


def show(error: ComputilityError) -> int:
    """Print the error to standard error; returns the exit code."""
    row = mapping_of(error)
    out = Terminal(stderr=True, highlight=False, soft_wrap=True)
    out.print("[red]error:[/red]", end=" ")
    out.print(error.message, markup=False)
    hint = HINTS.get(row.reason, "")
    if (
        hint and "--key" not in error.message and not error.param
    ):  # what a field says is no matter of the role
        out.print(f"  {hint}", markup=False, style="dim")
    return row.exit_code
