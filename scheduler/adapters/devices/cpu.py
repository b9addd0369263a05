"""The CPU as a device: one per node, shared by as many grants as it has cores."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from common.resources.pool import Device

MIN_SLOTS = 2
"""So that even a machine with one core serves a model and tunes it at the same time."""


def probe_cpu(node: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> Device:
    """The node's CPU; never fails."""
    memory = psutil.virtual_memory()
    return Device(
        id=f"cpu-{node}",
        index=0,
        vendor="cpu",
        model=model_name(cpuinfo),
        memory_bytes=memory.total,
        slots=max(MIN_SLOTS, usable_cores()),
        memory_used_bytes=memory.total - memory.available,
        utilisation_percent=round(psutil.cpu_percent(None)),
    )


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def model_name(cpuinfo: Path) -> str:
    """As the kernel names it; ``cpu`` where it does not (some Arm kernels)."""
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("model name", "cpu model") and value.strip():
            return " ".join(value.split())
    return "cpu"
