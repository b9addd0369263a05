"""port-forward: a port of a job, on one's own machine."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from common.client_sessions import JobSession
from common.errors import ComputilityError, InvalidInput, NotFound
from control.cli.asking.finding import find
from control.cli.asking.kinds import kind_named
from control.cli.asking.options import ProjectOption, project_of, session_of
from control.console.output import to_stderr

if TYPE_CHECKING:
    from common.client import Client

HERE = "127.0.0.1"
MAX_CONNECTIONS = 32
MAX_PORTS = 16
READ_BYTES = 64 * 1024
LOOK_SECONDS = 0.1
"""Where control had nothing to tell: it waits itself, but not for everybody at once."""
_PAIR = re.compile(r"(?:(\d{1,5}):)?(\d{1,5})", re.ASCII)
_HIGHEST_PORT = 65_535


def port_forward(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job that was made with --ports.")],
    ports: Annotated[list[str], typer.Argument(metavar="LOCAL:REMOTE...", help="8888 means 8888:8888.")],
    project: ProjectOption = None,
) -> None:
    """Reach ports of a job on this machine; Ctrl-C ends it.

    They are those on which it listens within its cell; it has to be made with --ports. What connects here
    is sent through control with your key.

    Example: computility port-forward notebook 8888
    """
    pairs = [pair_of(text) for text in ports]
    if len(pairs) > MAX_PORTS:
        raise InvalidInput(f"at most {MAX_PORTS} ports", param="LOCAL:REMOTE")
    with session_of(context).client(timeout_seconds=60) as client:
        found = find(client, kind_named("Job"), job, project_of(context, project))
        if not (found["spec"].get("session") or {}).get("ports"):
            raise InvalidInput(
                f"job/{job} has no ports to be reached; make it with `computility run --ports -- COMMAND`"
            )
        where = found["metadata"]["project"]
        listeners = [(listen(local), remote) for local, remote in pairs]
        room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        for listener, remote in listeners:
            to_stderr(f"{HERE}:{listener.getsockname()[1]} leads to port {remote} of job/{job}")
            serve = Forwarding(lambda: session_now(client, job, where), remote, room)
            threading.Thread(target=serve.accept_all, args=(listener,), daemon=True).start()
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def pair_of(text: str) -> tuple[int, int]:
    """``LOCAL:REMOTE`` or one port for both; local 0 = any that is free. Raises ``InvalidInput``."""
    match = _PAIR.fullmatch(text)
    local, remote = (int(match[1] or match[2]), int(match[2])) if match else (0, 0)
    if not (0 < remote <= _HIGHEST_PORT and local <= _HIGHEST_PORT):
        raise InvalidInput(
            f"{text!r} is no pair of ports; write such as 8888 or 9000:8888", param="LOCAL:REMOTE"
        )
    return local, remote


def listen(port: int) -> socket.socket:
    """On this machine's loopback alone. Raises ``InvalidInput`` where that cannot be."""
    try:
        return socket.create_server((HERE, port))
    except OSError as error:
        raise InvalidInput(
            f"port {port} here cannot be listened on: {error.strerror}; choose another with LOCAL:REMOTE"
        ) from error


def session_now(client: Client, job: str, project: str) -> JobSession:
    """The session of the attempt that runs. Raises ``NotFound`` where none does."""
    status = client.get("jobs", job, project).get("status") or {}
    if status.get("phase") != "Running":
        raise NotFound(f"job/{job} does not run: it is {status.get('phase', 'Pending')}")
    return JobSession(client, job, project, int(status["attempts"]))


class Forwarding:
    """Carries what connects here to one port of a job. ``room``: for connections of all ports together."""

    def __init__(
        self, session: Callable[[], JobSession], port: int, room: threading.BoundedSemaphore
    ) -> None:
        self._session, self._port, self._room = session, port, room

    def accept_all(self, listener: socket.socket) -> None:
        """For ever; each connection in a thread of its own."""
        while True:
            self._room.acquire()
            try:
                here, _ = listener.accept()
            except OSError:
                self._room.release()
                continue
            threading.Thread(target=self._carry_and_release, args=(here,), daemon=True).start()

    def _carry_and_release(self, here: socket.socket) -> None:
        try:
            self.carry(here)
        finally:
            self._room.release()

    def carry(self, here: socket.socket) -> None:
        """Until both sides have ended, or one is gone."""
        with here:
            try:
                self._join(here, self._session())
            except ComputilityError as error:
                to_stderr(f"port {self._port}: {error.message}")

    def _join(self, here: socket.socket, session: JobSession) -> None:
        number = session.open(self._port)
        try:
            way = session, number, here
            sending = threading.Thread(target=_send_all, args=way, daemon=True)
            sending.start()
            _receive_all(session, number, here)
            sending.join()
        finally:
            with suppress(ComputilityError):
                session.close(number)


def _send_all(session: JobSession, number: int, here: socket.socket) -> None:
    """Ends quietly where either side is gone: who receives says so."""
    offset, data = 0, b"-"
    try:
        while data:
            data = here.recv(READ_BYTES)
            session.send(number, offset, data, end=not data)
            offset += len(data)
    except (OSError, ComputilityError):
        with suppress(OSError):
            here.shutdown(socket.SHUT_RDWR)


def _receive_all(session: JobSession, number: int, here: socket.socket) -> None:
    """Ends quietly where who connected here is gone."""
    offset, ended = 0, False
    try:
        while not ended:
            piece = session.receive(number, offset)
            here.sendall(piece.data)
            offset, ended = piece.next_offset, piece.ended
            if not (piece.data or ended):
                session.sleep(LOOK_SECONDS)
        here.shutdown(socket.SHUT_WR)
    except OSError:
        return
    except ComputilityError:
        with suppress(OSError):
            here.shutdown(socket.SHUT_RDWR)
        raise
