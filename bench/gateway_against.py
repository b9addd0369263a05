"""The gateway beside routers of others: wrk as load, rounds in turns, a canned engine behind all.

Ours authenticates, limits, meters and syncs; theirs do not.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.canned_engine import EVENTS
from common.errors import SetupError
from common.settings import ControlSettings, GatewaySettings, Settings, child_environment
from tests.fixtures.gateway import SECRET, table
from tests.fixtures.ports import free_port

PEERS = ("vllm-router",)
CONNECTIONS = 32
START_SECONDS = 60
OURS = {"computility": 1, "computility-2": 2}
"""By name, with how many workers."""
_CHAT = '{{"model":"tiny","messages":[{{"role":"user","content":"{}"}}],"max_tokens":64,"stream":{}}}'
_SCRIPT = """
wrk.method = "POST"
wrk.body = [==[{body}]==]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {secret}"
done = function(all, latency)
  local bad = all.errors.status + all.errors.connect + all.errors.read + all.errors.timeout
  io.write(string.format("told %d %d %d %d %d\\n", all.requests, all.duration,
    latency:percentile(50), latency:percentile(99), bad))
end
"""


@dataclass(frozen=True)
class Contender:
    """Where it is asked, and the process that it is, with children."""

    url: str
    pid: int


@dataclass(frozen=True)
class Told:
    """What wrk tells of one round; ``p50_us`` and ``p99_us`` are microseconds, as is ``cpu_us``, the
    contender's processor time for a request."""

    per_second: float
    p50_us: int
    p99_us: int
    cpu_us: float


def measure(peers: Sequence[str], rounds: int, seconds: float) -> dict[str, object]:
    """Medians of the rounds by contender. Raises ``SetupError`` where wrk or a peer is not there."""
    if shutil.which("wrk") is None:
        raise SetupError("wrk is not installed: it makes the load (apt-get install wrk)")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="computility-bench-")))
        all_of = _start(stack, folder, peers)
        scripts = {kind: _script(folder, stream=kind == "stream") for kind in ("plain", "stream")}
        many: dict[tuple[str, str], list[Told]] = {}
        for _ in range(rounds):
            for kind, script in scripts.items():
                for name, one in all_of.items():
                    many.setdefault((kind, name), []).append(_wrk(one, script, CONNECTIONS, seconds))
        both = ("straight", "computility")
        alone = {name: _wrk(all_of[name], scripts["plain"], 1, seconds) for name in both}
    medians = {place: statistics.median(one.per_second for one in told) for place, told in many.items()}
    cpu_us = {place: statistics.median(one.cpu_us for one in told) for place, told in many.items()}
    return {
        "rps": {name: round(medians["plain", name]) for name in all_of},
        "chunks_per_second": {name: round(EVENTS * medians["stream", name]) for name in all_of},
        "cpu_us": {name: round(cpu_us["plain", name]) for name in all_of},
        "cpu_us_of_a_stream": {name: round(cpu_us["stream", name]) for name in all_of},
        "workers": dict(OURS),
        "added_p50_ms": (alone["computility"].p50_us - alone["straight"].p50_us) / 1000,
        "added_p99_ms": (alone["computility"].p99_us - alone["straight"].p99_us) / 1000,
        "load_average": os.getloadavg()[0],
    }


def _start(stack: ExitStack, folder: Path, peers: Sequence[str]) -> dict[str, Contender]:
    """The canned engine and all contenders, by name."""
    port = free_port()
    engine = f"http://127.0.0.1:{port}"
    pid = stack.enter_context(_process([sys.executable, "-m", "bench.canned_engine", str(port)]))
    all_of = {"straight": Contender(engine, pid)}
    for peer in peers:
        all_of[peer] = stack.enter_context(_router(_installed(peer), engine))
    for name, workers in OURS.items():
        all_of[name] = stack.enter_context(_gateway(folder / name, workers, engine))
    for name, one in all_of.items():
        _until_answering(name, one.url)
    return all_of


@contextmanager
def _gateway(home: Path, workers: int, engine: str) -> Iterator[Contender]:
    home.mkdir()
    settings = Settings(
        home=home,
        control=ControlSettings(port=free_port()),
        gateway=GatewaySettings(port=free_port(), workers=workers),
        log_level="error",
    )
    routes = table([("r0", engine)])
    (settings.folder("spool") / "routes.json").write_text(routes.model_dump_json())
    command = [sys.executable, "-m", "inference.gateway.main"]
    with _process(command, child_environment(settings)) as pid:
        yield Contender(settings.gateway_url.removesuffix("/v1"), pid)


@contextmanager
def _router(command: str, engine: str) -> Iterator[Contender]:
    port, metrics = str(free_port()), str(free_port())
    words = [command, "--host", "127.0.0.1", "--port", port, "--policy", "round_robin"]
    with _process([*words, "--worker-urls", engine, "--prometheus-port", metrics]) as pid:
        yield Contender(f"http://127.0.0.1:{port}", pid)


def _installed(peer: str) -> str:
    """The peer's program, in a folder of its own. Raises ``SetupError`` where it cannot be installed."""
    folder = Path(tempfile.gettempdir()) / f"computility-bench-{os.getuid()}" / peer
    program = folder / "bin" / peer
    if not program.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run([folder / "bin" / "pip", "install", "-q", peer], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SetupError(f"{peer} cannot be installed: {error}") from error
    return os.fspath(program)


def _script(folder: Path, *, stream: bool) -> Path:
    body = _CHAT.format("a question of a few words " * 6, "true" if stream else "false")
    path = folder / f"{stream}.lua"
    path.write_text(_SCRIPT.format(body=body, secret=SECRET))
    return path


def _cpu_us(pid: int) -> float:
    """Processor time of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")
    return own + sum(_cpu_us(int(child)) for child in children)


def _wrk(one: Contender, script: Path, connections: int, seconds: float) -> Told:
    """One round. Raises ``SetupError`` where a request was not answered well."""
    before_us = _cpu_us(one.pid)
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", os.fspath(script)]
    done = subprocess.run(
        [*words, f"{one.url}/v1/chat/completions"], capture_output=True, text=True, check=True, timeout=120
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("told "))
    requests, duration_us, p50_us, p99_us, bad = map(int, line.split()[1:])
    if bad or not requests:
        raise SetupError(f"{one.url}: {bad} of {requests} requests were not answered well")
    cpu_us = (_cpu_us(one.pid) - before_us) / requests
    return Told(requests / (duration_us / 1e6), p50_us, p99_us, cpu_us)


def _until_answering(name: str, url: str) -> None:
    body = _CHAT.format("hi", "false").encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, headers)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise SetupError(f"{name} did not answer within {START_SECONDS} s")


@contextmanager
def _process(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[int]:
    """The id of a child that is gone afterwards."""
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
