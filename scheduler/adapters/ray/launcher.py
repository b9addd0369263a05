"""Runs one rank and lets nothing of it outlive it. Only the standard library: started with ``python -S -E``.

Two processes watch each other: the outer one (child of the node agent) and the inner one, which starts the
command. Both adopt orphans, so every descendant stays below one of them, however it forks or detaches:
- the agent dies            -> the kernel sends the outer one SIGTERM: it stops all
- the outer one is killed   -> the kernel sends the inner one SIGTERM: it stops all
- the inner one is killed   -> the kernel kills the command; the outer one kills the rest
- the command ends          -> the inner one stops what it left behind, writes the exit code, ends

Usage: launcher.py PARENT_PID GRACE_SECONDS EXIT_FILE COMMAND [ARGUMENT...]
"""

import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
KILL_NOW = signal.SIGUSR1
"""What the agent sends when the grace that it gave is over."""
WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, KILL_NOW}
POLL_SECONDS = 0.02
OUTER_MARGIN_SECONDS = 5.0


def prctl(option: int, value: int) -> None:
    """The Linux call; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def die_with_parent(parent_pid: int, with_signal: int) -> None:
    """Have the kernel send ``with_signal`` when the parent ends; end now if it has ended already."""
    prctl(PR_SET_PDEATHSIG, with_signal)
    if os.getppid() != parent_pid:
        os._exit(143)


def descendants() -> list[int]:
    """All processes below this one, zombies left out."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    state, parent = stat.read().rpartition(b")")[2].split()[:2]
            except OSError:
                continue
            if state not in (b"Z", b"X"):
                children.setdefault(int(parent), []).append(int(entry))
    found, frontier = [], [os.getpid()]
    while frontier:
        below = children.get(frontier.pop(), [])
        found += below
        frontier += below
    return found


def send(pids: list[int], number: int) -> None:
    """Signal all of them; those already gone are no matter."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue


def reap(main: int, code: int | None) -> int | None:
    """Collect every dead child; returns the exit code of ``main`` once it is known."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code if code is not None else 1
        if pid == 0:
            return code
        if pid == main:
            code = os.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code


def supervise(main: int, grace_seconds: float, has_deputy: bool) -> int:
    """Wait for ``main``; on a signal, or when it has ended, stop everything below. Returns its exit code.

    ``has_deputy``: ``main`` is the inner process, which stops the rest by itself; what it leaves is killed.
    """
    code: int | None = None
    deadline: float | None = None
    while True:
        got = signal.sigtimedwait(WATCHED, 3600.0 if deadline is None else POLL_SECONDS)
        code = reap(main, code)
        asked = 0 if got is None or got.si_signo == signal.SIGCHLD else got.si_signo
        if has_deputy and asked and code is None:
            send([main], KILL_NOW if asked == KILL_NOW else signal.SIGTERM)
        if deadline is None and (asked or code is not None):
            deadline = time.monotonic() + (0.0 if has_deputy and code is not None else grace_seconds)
            if not has_deputy:
                send(descendants(), signal.SIGTERM)
        if deadline is not None:
            left = descendants()
            if not left:
                code = reap(main, code)
                return 1 if code is None else code
            if asked == KILL_NOW and not has_deputy:
                deadline = 0.0
            if time.monotonic() >= deadline or (has_deputy and code is not None):
                send(left, signal.SIGKILL)


def write_exit_code(path: str, code: int) -> None:
    """Atomically: a reader finds no file or a whole one."""
    with open(f"{path}.tmp", "w") as file:
        file.write(f"{code}\n")
    os.replace(f"{path}.tmp", path)


def exec_command(parent_pid: int, command: list[str]) -> None:
    """Become the command; 127 = not found, 126 = cannot be run, as shells have it."""
    try:
        die_with_parent(parent_pid, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error.strerror}\n".encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def inner(parent_pid: int, grace_seconds: float, exit_file: str, command: list[str]) -> int:
    """Run the command and leave its exit code."""
    die_with_parent(parent_pid, signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    pid = os.getpid()
    child = os.fork()
    if child == 0:
        exec_command(pid, command)
    code = supervise(child, grace_seconds, has_deputy=False)
    write_exit_code(exit_file, code)
    return code


def main(arguments: list[str]) -> int:
    """Run as the outer process; returns the command's exit code."""
    parent_pid, grace_seconds, exit_file = int(arguments[0]), float(arguments[1]), arguments[2]
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    die_with_parent(parent_pid, signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    pid = os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(inner(pid, grace_seconds, exit_file, arguments[3:]))
    code = supervise(child, grace_seconds + OUTER_MARGIN_SECONDS, has_deputy=True)
    if not os.path.exists(exit_file):
        write_exit_code(exit_file, code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
