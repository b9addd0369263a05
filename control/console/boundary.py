"""Errors as the command line shows them: what is wrong, what to do, and an exit code; no tracebacks."""

from __future__ import annotations

import json

import openai

from common.error_bodies import error_from_body
from common.errors import ComputilityError, Unavailable, mapping_of
from control.console.terminal import Terminal

HINTS = {
    "Unauthenticated": "give another key with --key or COMPUTILITY_API_KEY",
    "Forbidden": "use a key with a role that may do this: `computility keys create`",
}


def of_openai(error: openai.OpenAIError) -> ComputilityError:
    """An error of the official client as one of ours."""
    if isinstance(error, openai.APIStatusError):
        return error_from_body(error.status_code, json.dumps({"error": error.body}))
    if isinstance(error, openai.APIConnectionError):
        url = str(error.request.url.copy_with(path="", query=None))
        return Unavailable(f"the gateway is not running at {url}; start it with `computility up`")
    return ComputilityError(str(error))


def show(error: ComputilityError) -> int:
    """Print the error to standard error; returns the exit code."""
    row = mapping_of(error)
    out = Terminal(stderr=True, highlight=False, soft_wrap=True)
    out.print("[red]error:[/red]", end=" ")
    out.print(error.message, markup=False)
    hint = HINTS.get(row.reason, "")
    if hint and "--key" not in error.message:
        out.print(f"  {hint}", markup=False, style="dim")
    return row.exit_code
