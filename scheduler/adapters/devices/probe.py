"""All devices of this node, from one probe per vendor in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.errors import SetupError
from common.resources.pool import Device
from scheduler.adapters.devices.cpu import probe_cpu
from scheduler.adapters.devices.fake import probe_file
from scheduler.adapters.devices.nvidia import probe_nvidia

ACCELERATORS: Mapping[str, Callable[[], list[Device]]] = {"nvidia": probe_nvidia}
"""Vendor -> its probe: the devices, or ``SetupError`` that says why there are none to see."""


@dataclass(frozen=True)
class Found:
    """The node's devices, and for each vendor that shows none the reason."""

    devices: tuple[Device, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)


def probe_devices(node: str, cpu_device: Literal["auto", "always", "never"], device_file: str = "") -> Found:
    """Ask every vendor's probe, or read ``device_file`` instead where one is given. Blocks for up to a
    second."""
    devices: list[Device] = []
    faults: dict[str, str] = {}
    if device_file:
        return Found(tuple(probe_file(Path(device_file), node)))
    for vendor, probe in ACCELERATORS.items():
        try:
            devices += probe()
        except SetupError as error:
            faults[vendor] = error.message
    if cpu_device == "always" or (cpu_device == "auto" and not devices):
        devices.append(probe_cpu(node))
    return Found(tuple(devices), faults)
