"""Run a vendor's command-line tool so that neither its absence nor its hanging stops the agent."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence

from common.errors import SetupError

TIMEOUT_SECONDS = 10.0
KILL_SECONDS = 1.0
"""How long a killed tool may take to go; one that waits inside its driver cannot be killed at all."""

_stuck: dict[str, subprocess.Popen[bytes]] = {}
"""Tools that survived being killed: a second one would only get stuck as well."""


def run_tool(command: Sequence[str], timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """What the tool prints on its standard output.

    Raises ``SetupError`` with the reason where it is not installed, fails, or is not done after
    ``timeout_seconds``; it is then killed with all that it started.
    """
    tool, line = command[0], " ".join(command)
    stuck = _stuck.get(tool)
    if stuck is not None and stuck.poll() is None:
        raise SetupError(f"{tool} hangs since an earlier call and cannot be killed (pid {stuck.pid})")
    _stuck.pop(tool, None)
    if shutil.which(tool) is None:
        raise SetupError(f"{tool} is not installed")
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SetupError(f"{tool} does not start: {error.strerror}") from error
    try:
        out, err = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        _kill(tool, process)
        raise SetupError(f"`{line}` was not done after {timeout_seconds:g} s and was killed") from error
    if process.returncode:
        said = (err or out).decode(errors="replace").strip().splitlines()
        raise SetupError(f"`{line}` failed with status {process.returncode}: {said[-1] if said else ''}")
    return out.decode(errors="replace")


def _kill(tool: str, process: subprocess.Popen[bytes]) -> None:
    """End the tool's whole session; remember it where it does not end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.communicate(timeout=KILL_SECONDS)
    except subprocess.TimeoutExpired:
        _stuck[tool] = process
