"""The process that has the gateway's port and starts its workers; it serves nobody itself.

Each worker has a listening socket of its own on the port (SO_REUSEPORT), which this process keeps open: what
connects while a worker is being replaced waits for the next one, and is not refused.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

from common.errors import SetupError
from common.settings import Settings, child_environment
from common.telemetry import get_logger
from inference.gateway.limits.table import shared_memory

BACKLOG = 2048
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
"""Before a worker that has ended is replaced; doubled for each that lived less than ``SOUND_SECONDS``."""
SOUND_SECONDS = 10.0
END_SECONDS = 10.0
"""For which workers may take longer to end than what is under way has."""
_ENDS = frozenset((signal.SIGTERM, signal.SIGINT))
_WATCHED = _ENDS | {signal.SIGCHLD}
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_log = get_logger("gateway.workers")


@dataclass(frozen=True)
class Place:
    """What a worker is told: which one it is, the file of the table of limits that all share, and the files
    of its listening sockets."""

    worker: int
    limits: int
    sockets: tuple[int, ...]

    @staticmethod
    def of(text: str) -> Place:
        """Raises ``ValueError``."""
        worker, limits, files = text.split(":")
        return Place(int(worker), int(limits), tuple(map(int, files.split(","))))

    def __str__(self) -> str:
        return f"{self.worker}:{self.limits}:{','.join(map(str, self.sockets))}"

    def take(self, parent: int) -> list[socket.socket]:
        """The listening sockets. From now on this process ends with its parent, whatever ends that."""
        ctypes.CDLL(None, use_errno=True).prctl(_DIES_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        return [socket.socket(fileno=number) for number in self.sockets]


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound socket; ``shared``: with others of this user. Raises ``SetupError`` that says how to choose
    another address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise SetupError(
            f"the gateway cannot listen on {host}:{port} ({error.strerror}); choose another port with "
            f"COMPUTILITY_GATEWAY__PORT or `computility up --gateway-port PORT`"
        ) from error
    sock.set_inheritable(True)
    return sock


class _Worker:
    """One place, and the process that has it."""

    def __init__(self, settings: Settings, worker: int, limits: int) -> None:
        gateway = settings.gateway
        self._sockets = [listen(host, gateway.port, shared=True) for host in gateway.hosts]
        self._place = Place(worker, limits, tuple(sock.fileno() for sock in self._sockets))
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._began_seconds = self._begins_seconds = time.monotonic()
        self.is_first = True

    def start(self) -> None:
        self._began_seconds = time.monotonic()
        command = [sys.executable, "-m", "inference.gateway.main"]
        command += ["--worker", str(self._place), "--parent", str(os.getpid())]
        env = child_environment(self._settings)
        self._process = subprocess.Popen(
            command, env=env, pass_fds=(self._place.limits, *self._place.sockets)
        )

    @property
    def waits_seconds(self) -> float | None:
        """Until a process is to be started; None where there is one."""
        return None if self._process is not None else max(0.0, self._begins_seconds - time.monotonic())

    def ended(self) -> int | None:
        """The code of a process that has ended since; it is going to be replaced after a pause."""
        code = self._process.poll() if self._process is not None else None
        if code is None:
            return None
        lived_seconds = time.monotonic() - self._began_seconds
        sound = lived_seconds >= SOUND_SECONDS
        self._pause_seconds = (
            FIRST_PAUSE_SECONDS if sound else min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
        )
        self._begins_seconds, self._process = time.monotonic() + self._pause_seconds, None
        _log.error("a worker has ended", worker=self._place.worker, code=code, lived_seconds=lived_seconds)
        was_first, self.is_first = self.is_first, False
        return code if was_first and not sound else 0

    def tell(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, until_seconds: float) -> None:
        """Until it has ended; then it is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, until_seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            _log.error("a worker did not end in time", worker=self._place.worker)
            self._process.kill()
            self._process.wait()


def supervise(settings: Settings) -> int:
    """Have the workers serve until SIGTERM or SIGINT; the exit code. A worker that cannot even begin ends all
    with its code. Raises ``SetupError`` where the port is taken."""
    for host in settings.gateway.hosts:
        listen(host, settings.gateway.port).close()  # nobody else is there, not even one that shares
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    limits = shared_memory(settings.gateway.workers)
    workers = [_Worker(settings, number, limits) for number in range(settings.gateway.workers)]
    for worker in workers:
        worker.start()
    _log.info("gateway listens", url=settings.gateway_url, workers=len(workers))
    code = _watch(workers)
    for worker in workers:
        worker.tell(signal.SIGTERM)
    until_seconds = time.monotonic() + settings.gateway.drain_seconds + END_SECONDS
    for worker in workers:
        worker.wait(until_seconds)
    return code


def _watch(workers: list[_Worker]) -> int:
    """Replace workers that have ended until all are to end. Returns the exit code."""
    while True:
        waits = [wait for worker in workers if (wait := worker.waits_seconds) is not None]
        told = signal.sigtimedwait(_WATCHED, min(waits, default=LONGEST_PAUSE_SECONDS))
        if told is not None and told.si_signo in _ENDS:
            return 0
        for worker in workers:
            code = worker.ended()
            if code is not None and code > 0:
                return code
            if worker.waits_seconds == 0.0:
                worker.start()
