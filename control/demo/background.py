"""`computility up` as a child process: for the demo and for tests that need the whole product."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from common.errors import SetupError
from common.settings import Settings
from control.supervisor.instance import RunFolder
from control.supervisor.parts import environment
from control.supervisor.ports import is_free
from control.supervisor.sweep import pids_of

START_TIMEOUT_SECONDS = 240.0
STOP_TIMEOUT_SECONDS = 120.0
PORT_TIMEOUT_SECONDS = 10.0


@dataclass
class Platform:
    """One instance in ``settings.home``, started with `up` and its options."""

    settings: Settings
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    ports: dict[int, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def log(self) -> Path:
        return self.settings.folder("logs") / "up.log"

    @property
    def key(self) -> str:
        """The admin key as `up` kept it."""
        return str(json.loads((self.home / "cli.json").read_text())["api_key"])

    def start(self, tell: Callable[[str], None] = lambda _: None) -> None:
        """Return when control and gateway are ready; else ``SetupError`` with the end of the log."""
        settings = self.settings
        command = [
            *(sys.executable, "-m", "control.cli.main", "--home", str(settings.home), "up", *self.options),
            *("--gateway-port", str(settings.gateway.port), "--control-port", str(settings.control.port)),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._is_up(tell):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SetupError(f"`up` did not start; the end of {self.log}:\n{self.log_tail()}")
            time.sleep(0.3)

    def _is_up(self, tell: Callable[[str], None]) -> bool:
        state = RunFolder(self.settings).read_state()
        if self.process is None or state is None or state.pid != self.process.pid:
            return False
        tell(", ".join(f"{child.name} {child.state}" for child in state.children))
        return state.state == "ready" and "base URL" in self.log_tail(40)

    def log_tail(self, lines: int = 20) -> str:
        """The end of what `up` printed."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def pids(self) -> set[int]:
        """Every process of the instance now, but not `up` itself."""
        run = RunFolder(self.settings)
        state = run.read_state()
        folders = [self.home / "logs", *([Path(state.ray_folder)] if state and state.ray_folder else [])]
        own = {self.process.pid} if self.process else set()
        return pids_of(run.instance(), folders) - own

    def note_ports(self) -> dict[int, str]:
        """Remember on which ports the instance listens now, so that ``leftovers`` can look at them later."""
        pids = self.pids()
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.pid in pids:
                self.ports[connection.laddr.port] = connection.laddr.ip
        return self.ports

    def stop(self) -> int:
        """SIGTERM to `up`, as Ctrl-C does; returns its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process = None
        return code

    def leftovers(self) -> list[str]:
        """Processes and ports that are still there, which after ``stop`` should be none."""
        found = [f"process {pid} ({_name(pid)})" for pid in sorted(self.pids())]
        deadline = time.monotonic() + PORT_TIMEOUT_SECONDS
        left = dict(self.ports)
        while left:
            left = {port: ip for port, ip in left.items() if not is_free(ip.removeprefix("::ffff:"), port)}
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return found + [f"port {port}" for port in sorted(left)]


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "gone"
