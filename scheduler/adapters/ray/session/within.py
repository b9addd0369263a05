"""Starts a rank with a session, within its cell: takes the terminal, starts the relay, becomes the command.

    python -m scheduler.adapters.ray.session.within TERMINAL RELAY_FD COMMAND [ARGUMENT...]

``TERMINAL`` is 1 where standard input is a terminal, else 0; ``RELAY_FD`` is the socket to the agent, or -1.
"""

from __future__ import annotations

import fcntl
import os
import sys
import termios
from contextlib import suppress

MODULE = "scheduler.adapters.ray.session.within"


def command_within(python: str, terminal: bool, relay_fd: int | None, command: list[str]) -> list[str]:
    """The command by which a rank is started so."""
    relay = "-1" if relay_fd is None else str(relay_fd)
    return [python, "-P", "-m", MODULE, str(int(terminal)), relay, *command]


def take_terminal() -> None:
    """Make standard input the controlling terminal: Ctrl-C and the window's size reach the command."""
    with suppress(OSError):  # it leads a session already
        os.setsid()
    with suppress(OSError):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def start_relay(relay_fd: int) -> None:
    """Beside the command and no child of it: it would not know what to do with its end. It holds nothing but
    its socket, and Ctrl-C does not reach it."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.close(relay_fd)
        return
    code = 1
    try:
        os.setsid()
        if os.fork() == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(nothing, standard)
            from scheduler.adapters.ray.session.relay import serve

            serve(relay_fd)
        code = 0
    finally:
        os._exit(code)


def main(arguments: list[str]) -> int:
    """Does not return where the command starts; else the exit code."""
    terminal, relay_fd, command = arguments[0] == "1", int(arguments[1]), arguments[2:]
    if relay_fd >= 0:
        start_relay(relay_fd)
    if terminal:
        take_terminal()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        return 127 if isinstance(error, FileNotFoundError) else 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
