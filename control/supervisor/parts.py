"""The three processes of an instance: how each is started and when it is ready."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import httpx

from common.settings import Settings, child_environment
from control.supervisor.child import ChildSpec, Launch
from control.supervisor.ports import free_ports
from control.supervisor.sweep import sweep

LOOPBACK = "127.0.0.1"
PROBE_TIMEOUT_SECONDS = 2.0
LONGEST_FOLDER_CHARACTERS = 18
"""What the paths of Ray's Unix sockets leave of 107."""
CONTROL_NICENESS = 8
"""Control gives way to gateway and engines on the same machine: of these, people wait for each answer."""
QUIET_RAY = {
    # No account of each call to an agent: nobody reads it here, and to send it costs a thread of its own in
    # control and in each agent, which wakes every second.
    "RAY_task_events_report_interval_ms": "0",
}
CLOSED_RAY = {
    # A loopback address is taken for what it is, on Linux too, so that all ports are on loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # No ports for metrics: they ask nobody for a token.
    "RAY_enable_metrics_collection": "false",
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
}


class LocalRay:
    """A Ray head for this instance alone: free ports, a folder of its own, not joined to any other Ray.

    The folder lies in the system's temporary folder because Ray puts Unix sockets into it, and their paths
    may have 107 characters at most. Ray opens its own folder to everybody, so it lies in one that is closed.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = free_ports(1)[0]
        self.folder = Path()

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def launch(self) -> Launch:
        self._remove_remains()
        self.folder = Path(tempfile.mkdtemp(prefix="computility-", dir=_short_temporary_folder()))
        agent, agent_grpc, metrics, runtime_env, client = free_ports(5)
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            f"--node-ip-address={LOOPBACK}",
            f"--port={self.port}",
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--dashboard-agent-listen-port={agent}",
            f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--metrics-export-port={metrics}",
            f"--runtime-env-agent-port={runtime_env}",
            f"--ray-client-server-port={client}",
            "--include-dashboard=false",
            "--include-log-monitor=false",
            "--num-cpus=1",
            f"--object-store-memory={self.settings.ray.object_store_bytes}",
            f"--temp-dir={self.folder / 'r'}",
            "--disable-usage-stats",
            "--log-style=record",
        ]
        env = environment(self.settings)
        # Gangs are drained before; Ray would wait half a minute for the agents, which never go by themselves.
        env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
        # Ray's workers run at nice 15 otherwise, and engines, which people wait for, would inherit that.
        env["RAY_worker_niceness"] = "0"
        if limit_bytes := self.settings.retention.process_log_bytes:
            env.update(RAY_ROTATION_MAX_BYTES=str(limit_bytes), RAY_ROTATION_BACKUP_COUNT="1")
        return Launch(command, env)

    def is_ready(self) -> bool:
        """Ray itself reports to its log; that its node is registered shows in control, which waits for it."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_TIMEOUT_SECONDS)
            return probe.connect_ex((LOOPBACK, self.port)) == 0

    def _remove_remains(self) -> None:
        """A head that was killed may have left workers, and with them gangs, which must not run twice."""
        if self.folder.name:
            sweep(None, [self.folder], grace_seconds=2)
            self.remove_folder()

    def remove_folder(self) -> None:
        if self.folder.name:
            shutil.rmtree(self.folder, ignore_errors=True)


def _short_temporary_folder() -> str:
    folder = tempfile.gettempdir()
    return folder if len(folder) <= LONGEST_FOLDER_CHARACTERS else "/tmp"


def environment(settings: Settings) -> dict[str, str]:
    """What every process of the instance gets; no other Ray that the caller's shell points at."""
    env = {**QUIET_RAY, **child_environment(settings, RAY_USAGE_STATS_ENABLED="0", PYTHONUNBUFFERED="1")}
    for name in ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        env.pop(name, None)
    if not settings.ray.address and settings.internal_token:
        # Without the token nobody on this machine may run anything on the local Ray.
        env.update(CLOSED_RAY, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=settings.internal_token)
    # Processes import the product's packages wherever they are started from.
    root = str(Path(__file__).resolve().parents[2])
    env["PYTHONPATH"] = os.pathsep.join(part for part in (root, env.get("PYTHONPATH", "")) if part)
    return env


def answers(url: str) -> bool:
    """Whether a GET of ``url`` is answered with 2xx."""
    try:
        # Loading certificates would take longer than the question, five times a second, and nothing is told.
        return httpx.get(url, timeout=PROBE_TIMEOUT_SECONDS, trust_env=False, verify=False).is_success
    except httpx.HTTPError:
        return False


def ray_child(ray: LocalRay, logs: Path) -> ChildSpec:
    limit_bytes = ray.settings.retention.process_log_bytes
    return ChildSpec(
        "ray", ray.launch, ray.is_ready, logs / "ray.log", stop_seconds=35, log_bytes=limit_bytes
    )


def control_child(settings: Settings, ray_address: str, after: str, logs: Path) -> ChildSpec:
    update = {"address": ray_address}
    if not settings.ray.address:
        # On a single machine nobody else has business with the engines.
        update["node_address"] = LOOPBACK
    joined = settings.model_copy(update={"ray": settings.ray.model_copy(update=update)})
    env = environment(settings) | environment(joined)
    return ChildSpec(
        "control",
        lambda: Launch([sys.executable, "-m", "control.main"], env, CONTROL_NICENESS),
        lambda: answers(f"{settings.control_url}/readyz"),
        logs / "control.log",
        after=after,
        start_timeout_seconds=180,
        log_bytes=settings.retention.process_log_bytes,
    )


def gateway_child(settings: Settings, logs: Path) -> ChildSpec:
    url = settings.gateway_url.removesuffix("/v1")
    return ChildSpec(
        "gateway",
        lambda: Launch([sys.executable, "-m", "inference.gateway.main"], environment(settings)),
        lambda: answers(f"{url}/readyz"),
        logs / "gateway.log",
        log_bytes=settings.retention.process_log_bytes,
    )
