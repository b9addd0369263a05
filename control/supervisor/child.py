"""One supervised process: how to start it, when it is ready, when it may start again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.bounded_log import BoundedLog
from common.clock import Clock
from common.errors import SetupError
from common.niceness import give_way
from common.private import PRIVATE_UMASK, make_file

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A child that ran this long starts again without a pause, as if it had never failed."""


@dataclass(frozen=True)
class Launch:
    """What one start of a child runs. The higher its ``niceness`` (0 to 19), the less of the processor it
    gets beside others that are busy."""

    command: Sequence[str]
    environment: Mapping[str, str]
    niceness: int = 0


@dataclass(frozen=True)
class ChildSpec:
    """``launch`` is asked before each start. ``after`` names the child that must be ready first. ``log`` is
    kept within ``log_bytes`` (0 = no limit)."""

    name: str
    launch: Callable[[], Launch]
    is_ready: Callable[[], bool]
    log: Path
    after: str = ""
    start_timeout_seconds: float = 120.0
    stop_seconds: float = 20.0
    log_bytes: int = 0


TAIL_BYTES = 64 * 1024

State = Literal["waiting", "starting", "ready"]


@dataclass
class Child:
    """A child and what became of it. Times are the clock's monotonic seconds."""

    spec: ChildSpec
    clock: Clock
    process: subprocess.Popen[bytes] | None = None
    state: State = "waiting"
    starts: int = 0
    failures: int = 0
    was_ready: bool = False
    started_at: float = 0.0
    next_start_at: float = field(default=0.0)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def name(self) -> str:
        return self.spec.name

    def start(self) -> None:
        """Start the process in a session of its own, its output appended to the log. What it writes is its
        user's alone."""
        launch = self.spec.launch()
        self.spec.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_file(self.spec.log)
        with self.spec.log.open("ab") as log:
            try:
                self.process = subprocess.Popen(
                    list(launch.command),
                    env=dict(launch.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    umask=PRIVATE_UMASK,
                )
            except OSError as error:
                raise SetupError(
                    f"cannot start {self.name} ({launch.command[0]}): {error.strerror}"
                ) from error
        if launch.niceness:
            give_way(launch.niceness, self.process.pid)
        self.state = "starting"
        self.starts += 1
        self.started_at = self.clock.monotonic_seconds()

    def poll(self) -> int | None:
        """Take note of readiness; the exit code when the process has ended since the last look."""
        if self.process is None:
            return None
        code = self.process.poll()
        if code is not None:
            self._ended()
            return code
        if self.state == "starting":
            if self.spec.is_ready():
                self.state, self.was_ready = "ready", True
            elif self.clock.monotonic_seconds() - self.started_at > self.spec.start_timeout_seconds:
                self.kill()
        return None

    def bound_log(self) -> None:
        """Keep the log within its size."""
        BoundedLog(self.spec.log).keep_within(self.spec.log_bytes)

    def _ended(self) -> None:
        now = self.clock.monotonic_seconds()
        self.failures = 1 if now - self.started_at > STEADY_SECONDS else self.failures + 1
        pause = min(FIRST_BACKOFF_SECONDS * 2 ** (self.failures - 1), LONGEST_BACKOFF_SECONDS)
        self.process, self.state, self.next_start_at = None, "waiting", now + pause

    def may_start(self) -> bool:
        return self.process is None and self.clock.monotonic_seconds() >= self.next_start_at

    def terminate(self) -> None:
        """Ask the process to end."""
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """End the process and whatever is in its session's process group."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after the grace period; returns when the process is gone."""
        if self.process is None:
            return
        self.terminate()
        try:
            self.process.wait(self.spec.stop_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.wait()
        self.process, self.state = None, "waiting"

    def log_tail(self, lines: int = 12) -> str:
        """The end of the log."""
        try:
            return "\n".join(BoundedLog(self.spec.log).tail(TAIL_BYTES).splitlines()[-lines:])
        except OSError:
            return ""
