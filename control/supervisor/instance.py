"""What an instance keeps in ``home/run``: its id, its token, the lock of the running `up`, and its state."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from common.durable import write_private
from common.errors import Conflict, SetupError
from common.ids import new_id, new_secret
from common.settings import Settings


@dataclass(frozen=True)
class ChildState:
    """One supervised process as `supervisor.json` shows it."""

    name: str
    pid: int | None
    state: str
    restarts: int


@dataclass(frozen=True)
class SupervisorState:
    """The content of `supervisor.json`. ``state`` is starting, ready, stopping or stopped."""

    pid: int
    instance: str
    state: str
    started_ms: int
    control_url: str
    gateway_url: str
    ray_address: str = ""
    ray_folder: str = ""
    children: tuple[ChildState, ...] = field(default=())


class RunFolder:
    """``home/run``. Secrets in it are readable by their owner only."""

    def __init__(self, settings: Settings) -> None:
        self._metrics_token = settings.metrics_token
        try:
            self.path = settings.folder("run")
        except OSError as error:
            raise SetupError(
                f"cannot write {settings.home}: {error.strerror}; "
                "choose another folder with --home or COMPUTILITY_HOME"
            ) from error

    def instance(self) -> str:
        """The id that every process of the instance carries in its environment."""
        return self._keep("instance", lambda: new_id("ins"))

    def token(self) -> str:
        """What gateway and control show each other."""
        return self._keep("token", lambda: new_secret("cit"))

    def metrics_token(self) -> str:
        """What opens ``/metrics`` of gateway and control; Prometheus reads it from the file."""
        return self._metrics_token or self._keep("metrics_token", lambda: new_secret("cmt"))

    def _keep(self, name: str, make: Any) -> str:
        path = self.path / name
        if not path.exists():
            write_private(path, make())
        return path.read_text().strip()

    def lock(self) -> IO[str]:
        """Take the home until the file is closed or the process ends; ``Conflict`` says who holds it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        file = os.fdopen(descriptor, "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = file.read().strip() or "?"
            file.close()
            raise Conflict(
                f"Computility is running already in {self.path.parent} (`up` is pid {pid}); "
                "stop it with `computility down`, or choose another folder with --home",
                code="home_in_use",
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        return file

    def lock_holder(self) -> int | None:
        """The pid of the `up` that holds the home now, or None."""
        try:
            self.lock().close()
        except Conflict:
            text = (self.path / "lock").read_text().strip()
            return int(text) if text.isdigit() else None
        return None

    def write_state(self, state: SupervisorState) -> None:
        write_private(self.path / "supervisor.json", json.dumps(asdict(state), indent=2) + "\n")

    def read_state(self) -> SupervisorState | None:
        """What the last `up` wrote; None when there was none (or it is not readable)."""
        try:
            content = json.loads((self.path / "supervisor.json").read_text())
            children = tuple(ChildState(**child) for child in content.pop("children"))
            return SupervisorState(**content, children=children)
        except (OSError, ValueError, TypeError, KeyError):
            return None
