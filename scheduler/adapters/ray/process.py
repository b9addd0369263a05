"""One rank on this node: its launcher, its log, its readiness, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from common.bounded_log import BoundedLog
from common.clock import Clock
from common.errors import ComputilityError, SetupError
from common.log_times import LogTimes
from common.private import PRIVATE_UMASK, make_file
from scheduler.adapters.ray import launcher
from scheduler.adapters.ray.environment import Surroundings, build_environment, expand
from scheduler.adapters.ray.sandbox import Cell, confined
from scheduler.adapters.ray.session.rank_session import RankSession
from scheduler.adapters.ray.session.within import command_within
from scheduler.ports import RankOrder, RankRecord

CANNOT_START = 126
LOG_TAIL_BYTES = 2000
PROBE_TIMEOUT_SECONDS = 2.0
MISSES_UNTIL_UNREADY = 3
NOTE_SECONDS = 1.0
"""Between two notes of when a log grew."""


@dataclass(frozen=True)
class RankFiles:
    """Where a rank's output and its exit code go. The log is kept within ``log_bytes`` (0 = no limit)."""

    log: Path
    exit_code: Path
    log_bytes: int = 0


class RankProcess:
    """Starts at once. All methods belong to the thread of the agent's event loop: the kernel's parent-death
    signal is tied to the thread that starts the launcher."""

    def __init__(
        self, order: RankOrder, around: Surroundings, files: RankFiles, grace_seconds: float, clock: Clock
    ) -> None:
        self._order = order
        self._files = files
        self._clock = clock
        self._launcher: subprocess.Popen[bytes] | None = None
        self._trouble = ""
        self._next_probe = 0.0
        self._misses = 0
        self.session: RankSession | None = None
        self._next_note, self._noted_bytes = 0.0, 0
        self.record = RankRecord(
            rank=order.rank,
            role=order.role,
            replica=order.replica,
            state="Starting" if order.readiness else "Running",
            address=around.address,
            started_ms=clock.now_ms(),
            ports=dict(around.ports),
            grants=order.grants,
        )
        self._start(around, grace_seconds)

    @property
    def alive(self) -> bool:
        return self.record.state != "Exited"

    def _start(self, around: Surroundings, grace_seconds: float) -> None:
        """Whatever keeps it from starting ends it with the reason: what has not ended holds devices."""
        try:
            for path in (self._files.log, self._files.exit_code):
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                BoundedLog(path).remove()
            make_file(self._files.log)
            if self._order.session is not None:
                self.session = RankSession(self._order.session, self._files.log, self._clock)
            with self._files.log.open("ab") as log:
                command = _command(self._order, around, self.session)
                environment = build_environment(self._order, around)
                self._launcher = self._spawn(command, environment, grace_seconds, log.fileno())
        except Exception as error:  # noqa: BLE001 - as above
            text = str(error) if isinstance(error, ComputilityError | OSError) else repr(error)
            self._trouble = f"cannot start: {text}"
            with suppress(OSError):
                self._files.log.write_text(f"{self._trouble}\n", errors="replace")
            self._finish(CANNOT_START, self.record.started_ms)  # it has held nothing: nothing is billed
        else:
            self.record = replace(self.record, pid=self._launcher.pid)
        finally:
            if self.session is not None:
                self.session.begin()

    def _spawn(
        self, command: list[str], environment: Mapping[str, str], grace_seconds: float, log: int
    ) -> subprocess.Popen[bytes]:
        session = self.session
        terminal = session.terminal_end if session else None
        relay = session.relay_end if session else None
        output = log if terminal is None else terminal
        arguments = [str(os.getpid()), str(grace_seconds), str(self._files.exit_code), *command]
        return subprocess.Popen(
            [sys.executable, "-S", "-E", launcher.__file__, *arguments],
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=output,
            stderr=output,
            pass_fds=() if relay is None else (relay,),
            env=dict(environment),
            cwd=self._files.exit_code.parent,  # where a model's name is no path to anything
            start_new_session=True,
            umask=PRIVATE_UMASK,
        )

    @property
    def log_is_full(self) -> bool:
        return BoundedLog(self._files.log).is_full(self._files.log_bytes)

    def wants_note(self) -> bool:
        """Whether the log has grown, or was moved, since this was asked last; once a second, and once more
        when the process has ended."""
        now = self._clock.monotonic_seconds()
        if self.alive and now < self._next_note:
            return False
        self._next_note = now + NOTE_SECONDS
        try:
            size = self._files.log.stat().st_size
        except OSError:
            return False
        news, self._noted_bytes = size != self._noted_bytes, size
        return news

    def note_time(self) -> None:
        """Note how far the log is now. What cannot be written, as on a full disk, is told by the next."""
        with suppress(OSError):
            LogTimes(self._files.log).mark(self._clock.now_ms(), BoundedLog(self._files.log).end())

    async def keep_log(self) -> None:
        """Note the log's times and bound it, in a thread: a slow disk must not make the node look silent."""
        if self.wants_note():
            await asyncio.to_thread(self.note_time)
        if self.log_is_full:
            await asyncio.to_thread(self.bound_log)

    def bound_log(self) -> None:
        """Keep the log within its size. Takes as long as a copy of it."""
        BoundedLog(self._files.log).keep_within(self._files.log_bytes)

    def poll(self) -> None:
        """Notice the end of the process."""
        if not self.alive or self._launcher is None:
            return
        code = self._launcher.poll()
        if code is not None:
            self._finish(self._read_exit_code(code))
        elif self.session is not None:
            self.session.tend()
            if not self.record.idle and self.session.is_idle:
                self.record = replace(self.record, idle=True)

    def _read_exit_code(self, launcher_code: int) -> int:
        """As the launcher wrote it; where it could not, its own. Where it was killed itself it says so,
        whatever became of the command then."""
        if launcher_code < 0:
            return 128 - launcher_code
        try:
            return int(self._files.exit_code.read_text())
        except (OSError, ValueError):
            return launcher_code or 1

    def _finish(self, code: int, finished_ms: int | None = None) -> None:
        with suppress(OSError):
            self._files.exit_code.unlink(missing_ok=True)
        if self.session is not None:
            self.session.close()
        try:
            tail = BoundedLog(self._files.log).tail(LOG_TAIL_BYTES) or self._trouble
        except OSError as error:
            tail = self._trouble or f"its log cannot be read: {error}"
        ended_ms = self._clock.now_ms() if finished_ms is None else finished_ms
        self.record = replace(
            self.record, state="Exited", exit_code=code, finished_ms=ended_ms, log_tail=tail
        )

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM to every process of the rank now, SIGKILL after the grace."""
        if self._launcher is None or not self.alive:
            return
        if grace_seconds > 0:
            self._launcher.send_signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(grace_seconds, self._kill)

    def _kill(self) -> None:
        if self._launcher is not None and self._launcher.poll() is None:
            self._launcher.send_signal(launcher.KILL_NOW)

    async def probe(self, client: httpx.AsyncClient) -> None:
        """Ask the readiness address when its period is over."""
        readiness = self._order.readiness
        if readiness is None or not self.alive or self._clock.monotonic_seconds() < self._next_probe:
            return
        self._next_probe = self._clock.monotonic_seconds() + readiness.period_seconds
        address = self.record.address
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{self.record.ports[readiness.port]}{readiness.path}"
        answers = await _answers(client, url)
        if self.record.exit_code is not None:  # ended meanwhile
            return
        self._misses = 0 if answers else self._misses + 1
        if answers:
            self.record = replace(self.record, state="Ready")
        elif self.record.state == "Ready" and self._misses >= MISSES_UNTIL_UNREADY:
            self.record = replace(self.record, state="Running")


def _command(order: RankOrder, around: Surroundings, session: RankSession | None) -> list[str]:
    """The command with its placeholders replaced, in a cell where the role asks for one. Raises
    ``SetupError`` where ports of a session would be the node's."""
    command = [expand(word, order, around) for word in order.command]
    if session is not None:
        has_terminal = session.terminal_end is not None
        command = command_within(around.python, has_terminal, session.relay_end, command)
    walled = _within_walls(command, order, around)
    ports = session is not None and session.relay_end is not None
    shared = order.sandbox is None or order.sandbox.network or around.world_size > 1
    if ports and (shared or walled == command):
        raise SetupError("ports are reached in a cell without a network only: there they are no one else's")
    return walled


def _within_walls(command: list[str], order: RankOrder, around: Surroundings) -> list[str]:
    """Raises ``SetupError`` where walls are required and cannot be made."""
    if order.sandbox is None:
        return command
    cell = Cell(
        home=around.home,
        readable=tuple(expand(path, order, around) for path in order.sandbox.readable),
        writable=tuple(expand(path, order, around) for path in order.sandbox.writable),
        network=order.sandbox.network or around.world_size > 1,
        vendors=frozenset(grant.vendor for grant in order.grants),
        required=bool(order.sandbox.required),
    )
    return confined(command, cell, around.sandbox_mode, around.sandbox_hindrance)


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
