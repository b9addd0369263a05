"""Keeps the processes of an instance running until told to stop."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from common.clock import SYSTEM_CLOCK, Clock
from common.errors import ComputilityError, SetupError
from common.settings import Settings
from common.tls import control_client, require_guarded
from control.supervisor.child import Child, ChildSpec
from control.supervisor.instance import ChildState, RunFolder, SupervisorState
from control.supervisor.parts import LocalRay, control_child, gateway_child, ray_child
from control.supervisor.ports import require_free
from control.supervisor.sweep import sweep

TICK_SECONDS = 0.2
GIVE_UP_AFTER_FAILURES = 3
"""A child that never became ready is started this often before `up` gives up."""
DRAIN_SECONDS = 30.0
MOST_TOLD = 100
"""So many deaths and returns of children are kept until somebody asks for them."""


def _how(code: int) -> str:
    """How a process ended, by its exit code as Python tells it."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


class Supervisor:
    """Starts ``children`` in order, restarts what dies, stops all in the reverse order of ``stop_order``."""

    def __init__(self, children: Sequence[ChildSpec], clock: Clock = SYSTEM_CLOCK) -> None:
        self.children = {spec.name: Child(spec, clock) for spec in children}
        self._told: deque[str] = deque(maxlen=MOST_TOLD)
        self._down_since: dict[str, float] = {}
        self._clock = clock

    def step(self) -> None:
        """One look at all children: note deaths and readiness, start what may start, bound logs."""
        for child in self.children.values():
            child.bound_log()
            code = child.poll()
            if code is not None:
                self._note_death(child, code)
                self._stop_dependents(child.name)
            elif child.state == "ready" and child.name in self._down_since:
                seconds = self._clock.monotonic_seconds() - self._down_since.pop(child.name)
                self._told.append(f"{child.name} is ready again after {seconds:.1f} s")
        for child in self.children.values():
            if child.may_start() and self._may_follow(child):
                child.start()

    def _note_death(self, child: Child, code: int) -> None:
        if child.was_ready:
            self._down_since.setdefault(child.name, self._clock.monotonic_seconds())
            others = [other.name for other in self.children.values() if other.spec.after == child.name]
            too = f", {' and '.join(others)} with it" if others else ""
            text = f"{child.name} ended {_how(code)} and is started again{too}; its log: {child.spec.log}"
            self._told.append(text)

    def take_told(self) -> list[str]:
        """What has happened since the last call to children that had been ready, in words."""
        return [self._told.popleft() for _ in range(len(self._told))]

    def _may_follow(self, child: Child) -> bool:
        before = self.children.get(child.spec.after)
        return before is None or before.state == "ready"

    def _stop_dependents(self, name: str) -> None:
        for child in self.children.values():
            if child.spec.after == name:
                child.stop()

    @property
    def all_ready(self) -> bool:
        return all(child.state == "ready" for child in self.children.values())

    def require_hope(self) -> None:
        """Raise ``SetupError`` with the end of the log when a child dies again and again before ready."""
        for child in self.children.values():
            if not child.was_ready and child.failures >= GIVE_UP_AFTER_FAILURES:
                raise SetupError(
                    f"{child.name} does not start; the end of {child.spec.log}:\n{child.log_tail()}",
                    code="start_failed",
                )

    def stop(self, names: Sequence[str]) -> None:
        """Stop these children, one after the other."""
        for name in names:
            if name in self.children:
                self.children[name].stop()

    def states(self) -> tuple[ChildState, ...]:
        return tuple(
            ChildState(child.name, child.pid, child.state, max(0, child.starts - 1))
            for child in self.children.values()
        )


class Instance:
    """One running `up`: takes the home, cleans up after a killed one, starts everything, stops everything."""

    def __init__(self, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self.run = RunFolder(settings)
        self.settings = settings.model_copy(
            update={
                "instance": self.run.instance(),
                "internal_token": self.run.token(),
                "metrics_token": self.run.metrics_token(),
            }
        )
        self._clock = clock
        self._ray: LocalRay | None = None
        self._lock = self.run.lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._written: SupervisorState | None = None
        self._started_ms = clock.now_ms()
        self._phase = "starting"
        self.failure: ComputilityError | None = None
        self.supervisor = Supervisor(())

    def clean_up(self) -> int:
        """Stop what a killed `up` left; returns how many processes that were."""
        return clean_up(self.run, self.settings)

    def check_ports(self) -> None:
        """Raise ``SetupError`` that names the port in use, or the address without TLS, and the way out."""
        control, gateway = self.settings.control, self.settings.gateway
        if control.port == gateway.port and control.host == gateway.host:
            raise SetupError(
                f"control and gateway cannot both use port {control.port}; choose with --control-port PORT"
            )
        require_guarded(gateway, "gateway")
        require_guarded(control, "control")
        require_free(gateway.host, gateway.port, "gateway", "--gateway-port", "COMPUTILITY_GATEWAY__PORT")
        require_free(control.host, control.port, "control API", "--control-port", "COMPUTILITY_CONTROL__PORT")

    def start(self) -> None:
        """Begin to supervise in the background."""
        logs = self.settings.folder("logs")
        children, address = [], self.settings.ray.address
        if not address:
            self._ray = LocalRay(self.settings)
            address = self._ray.address
            children.append(ray_child(self._ray, logs))
        children.append(control_child(self.settings, address, children[0].name if children else "", logs))
        children.append(gateway_child(self.settings, logs))
        self.supervisor = Supervisor(children, self._clock)
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            try:
                self.supervisor.step()
                self.supervisor.require_hope()
            except ComputilityError as error:
                self.failure = error
                return
            if self.supervisor.all_ready and self._phase == "starting":
                self._phase = "ready"
            self._write_state()

    def _write_state(self) -> None:
        settings, ray = self.settings, self._ray
        state = SupervisorState(
            pid=os.getpid(),
            instance=settings.instance,
            state=self._phase,
            started_ms=self._started_ms,
            control_url=settings.control_url,
            gateway_url=settings.gateway_url,
            ray_address=ray.address if ray else settings.ray.address,
            ray_folder=str(ray.folder) if ray and ray.folder.name else "",
            children=self.supervisor.states(),
        )
        if state != self._written:
            self.run.write_state(state)
            self._written = state

    def wait_ready(self, stop: threading.Event, tell: Callable[[tuple[ChildState, ...]], None]) -> bool:
        """True when all children are ready, False when ``stop`` was set; raises when one cannot start."""
        while not stop.wait(TICK_SECONDS):
            if self.failure:
                raise self.failure
            tell(self.supervisor.states())
            if self.supervisor.all_ready:
                return True
        return False

    def stop(self, tell: Callable[[str], None] = lambda _: None) -> set[int]:
        """Stop all; returns the processes that could not be stopped (empty: nothing is left)."""
        self._phase = "stopping"
        self._stop.set()
        if self._thread:
            self._thread.join()
        self._write_state()
        tell("gateway")
        self.supervisor.stop(["gateway"])
        tell("engines and trainers")
        self._drain()
        tell("control and Ray")
        self.supervisor.stop(["control", "ray"])
        _, left = sweep(
            self.settings.instance, _folders(self.settings, self._ray.folder if self._ray else None)
        )
        if self._ray:
            self._ray.remove_folder()
            self._ray = None
        self._phase = "stopped"
        self._write_state()
        self._lock.close()
        return left

    def _drain(self) -> None:
        """Stop all gangs; where another control process leads and Ray is not ours, what runs is its own."""
        control = self.supervisor.children.get("control")
        if control is None or control.state != "ready":
            return
        with control_client(self.settings) as client:
            try:
                if self._ray is None and client.ready().get("role") == "follower":
                    return
                client.drain(
                    self.settings.internal_token,
                    timeout_seconds=DRAIN_SECONDS,
                    dismiss_agents=self._ray is None,  # a Ray of our own takes them with it
                )
            except ComputilityError:
                # What does not drain is stopped with Ray, and by the sweep after it.
                return


def _folders(settings: Settings, ray_folder: Path | None) -> list[Path]:
    folders = [settings.home / "logs"]
    if ray_folder and ray_folder.name:
        folders.append(ray_folder)
    return folders


def clean_up(run: RunFolder, settings: Settings) -> int:
    """Stop every process of the instance that has no `up` any more; returns how many there were.

    Raises ``SetupError`` naming those that would not end.
    """
    state = run.read_state()
    ray_folder = Path(state.ray_folder) if state and state.ray_folder else None
    count, left = sweep(run.instance(), _folders(settings, ray_folder))
    if left:
        pids = ", ".join(str(pid) for pid in sorted(left))
        raise SetupError(f"these processes of the instance do not end: {pids}; stop them by hand (kill -9 …)")
    if ray_folder and ray_folder.name.startswith("computility-"):
        shutil.rmtree(ray_folder, ignore_errors=True)
    return count
