"""All devices of this node, from one probe per vendor in one table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from common.vendors import Vendor
from scheduler.adapters.devices.accelerators import Accelerators, Found, Probe
from scheduler.adapters.devices.amd import probe_amd
from scheduler.adapters.devices.ascend import probe_ascend
from scheduler.adapters.devices.cpu import probe_cpu
from scheduler.adapters.devices.fake import probe_file
from scheduler.adapters.devices.nvidia import probe_nvidia

PROBES: Mapping[Vendor, Probe] = {"nvidia": probe_nvidia, "ascend": probe_ascend, "amd": probe_amd}

ACCELERATORS = Accelerators(PROBES)
"""Those of the node that this process runs on."""


def probe_devices(node: str, cpu_device: Literal["auto", "always", "never"], device_file: str = "") -> Found:
    """Ask every vendor's probe, or read ``device_file`` instead where one is given. Blocks for up to a
    second, or ``accelerators.TIMEOUT_SECONDS`` where a driver hangs."""
    if device_file:
        return Found(tuple(probe_file(Path(device_file), node)))
    found = ACCELERATORS.read(node)
    if cpu_device == "always" or (cpu_device == "auto" and not found.devices):
        return Found((*found.devices, probe_cpu(node)), found.faults)
    return found
